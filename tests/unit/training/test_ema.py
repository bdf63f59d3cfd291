import torch
from torch import nn

from isopose.training.ema import MovingAverage


def test_the_average_follows_weights_and_buffers():
    source = nn.BatchNorm1d(2)
    average = MovingAverage(source, decay=0.5)
    expected = torch.ones(2)
    for step in range(1, 20):
        nn.init.constant_(source.weight, float(step))
        source(torch.randn(4, 2))
        average.update(source)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(average.model.weight.data, expected)
    assert average.model.num_batches_tracked == 19
    assert not torch.equal(average.model.running_mean, source.running_mean)
    assert not average.model.training
    assert not average.model.weight.requires_grad
