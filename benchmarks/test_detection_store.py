"""Size of the detection store against dense half-precision heatmaps of the same frames, and what is lost."""

import numpy as np
import pytest
from reference import dense_maps as reference

from isopose import stage
from isopose.datasets.store import DetectionStore, SequenceStore, select
from isopose.detection import detect_view
from isopose.models.hrnet import fold_normalisation, load_estimator
from isopose.sparse_maps import MAP_THRESHOLD


@pytest.fixture(scope="module")
def detected(params, demo):
    """What the estimator says of each validation view: detections, and the dense maps, which no file keeps."""
    weights, stores = demo("synthetic/estimator/estimator.safetensors"), {"synthetic": demo("labelled/synthetic.h5")}
    options = params["detection"] | {"split": "test"}
    stage.set_threads(options["threads"])
    model, config = load_estimator(weights)
    model = fold_normalisation(model)
    with SequenceStore(stores["synthetic"]) as clips:
        keys = select(stores, params["evaluations"]["synthetic"]["validation"])
        return {key: detect_view(model, config["size"], clips.read(key.clip), key.view, options) for key in keys}


def test_size_against_dense_maps(benchmark, figure, detected, tmp_path):
    stored, dense = tmp_path / "stored.h5", tmp_path / "dense.h5"
    maps = np.concatenate([maps for _, maps in detected.values()])

    def write():
        with DetectionStore.create(stored) as store:
            for key, (detections, _) in detected.items():
                store.write(key, detections)

    benchmark.pedantic(write, rounds=3, warmup_rounds=1)
    reference.write(dense, maps)
    with DetectionStore(stored) as store:
        kept = np.concatenate([store.read(key).maps.dense() for key in detected])
    note = _loss(kept, maps)
    per_second = len(maps) / benchmark.stats.stats.median
    benchmark.extra_info.update(frames=len(maps), stored_bytes=stored.stat().st_size, written_per_second=per_second)
    figure(dense.stat().st_size / stored.stat().st_size, "times smaller", "at least 30", note)


def _loss(kept, maps):
    """The store's error in words: whole, what the network answers outside 0..1 included, and of the pixels kept."""
    error = np.abs(kept - maps)
    rms = np.sqrt(np.square(error).mean(dtype=np.float64))
    rounding = np.abs(kept - np.clip(maps, 0, 1))[maps >= MAP_THRESHOLD].max()
    assert rounding <= 1 / 255
    return f"error: rms {rms:.4f}, largest {error.max():.3f}, rounding of pixels kept {255 * rounding:.2f}/255"
