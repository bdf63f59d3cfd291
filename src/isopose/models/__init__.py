"""The networks: HRNet, heatmap embedding, multi-stride TCN, KCS descriptors and discriminator."""
