import pytest
import torch

from isopose.models.embedding import MapEntries, Observations
from isopose.occlusion.masking import (
    continuous_frame_mask,
    continuous_point_mask,
    corrupt,
    draw_corruption,
    frame_mask,
    point_mask,
    random_shift,
    random_swap,
)
from isopose.skeleton import SYMMETRIC_PAIRS

SHAPE = (400, 30, 17)
NOTHING = {
    "share": 1.0,
    "point": 0.0,
    "frame": 0.0,
    "continuous_point": 0.0,
    "continuous_frame": 0.0,
    "max_length": 40,
    "shift": 0.0,
    "shift_pixels": 2,
    "swap": 0.0,
}


def generator():
    return torch.Generator().manual_seed(0)


def lengths_of_runs(hidden):
    """Length of the one run of True in each row (N, T); fails if a row has several."""
    edges = hidden.int().diff(dim=1, prepend=torch.zeros(len(hidden), 1, dtype=torch.int))
    assert ((edges == 1).sum(1) <= 1).all()
    return hidden.sum(1)


def test_point_mask_hides_joints_independently_at_its_rate():
    keep = point_mask(SHAPE, 0.2, generator())
    assert keep.shape == SHAPE
    assert (~keep).float().mean() == pytest.approx(0.2, abs=0.005)
    assert (~keep[:, :, 0] & ~keep[:, :, 1]).float().mean() == pytest.approx(0.04, abs=0.01)


def test_frame_mask_hides_whole_frames_at_its_rate():
    keep = frame_mask(SHAPE, 0.2, generator())
    assert torch.equal(keep.all(-1), keep.any(-1))
    assert (~keep).float().mean() == pytest.approx(0.2, abs=0.015)


@pytest.mark.parametrize(("frames", "longest"), [(30, 40), (30, 10), (30, 2), (2, 40)])
def test_continuous_point_mask_hides_a_joint_for_one_run(frames, longest):
    keep = continuous_point_mask((400, frames, 17), 0.2, longest, generator())
    lengths = lengths_of_runs(~keep.transpose(1, 2).flatten(0, 1))
    chosen = lengths[lengths > 0]
    limit = min(longest, frames)
    assert len(chosen) / len(lengths) == pytest.approx(0.2, abs=0.02)
    assert (chosen.min(), chosen.max()) == (2, limit)
    assert chosen.float().mean() == pytest.approx((2 + limit) / 2, rel=0.05)


def test_continuous_frame_mask_hides_all_joints_for_one_run_anywhere():
    keep = continuous_frame_mask((4000, 30, 17), 1.0, 10, generator())
    assert torch.equal(keep.all(-1), keep.any(-1))
    hidden = ~keep[..., 0]
    lengths = lengths_of_runs(hidden)
    assert torch.bincount(lengths)[2:].float().div(4000).sub(1 / 9).abs().max() < 0.02
    first, last = hidden[:, 0].float().mean(), hidden[:, -1].float().mean()
    assert first > 0.02
    assert last > 0.02
    assert (~continuous_frame_mask((4000, 30, 17), 0.3, 10, generator())[..., 0]).any(1).float().mean() == (
        pytest.approx(0.3, abs=0.03)
    )


def test_shift_moves_joints_at_its_rate_in_all_directions():
    shift = random_shift(SHAPE, 0.5, 2, generator())
    assert (shift != 0).any(-1).float().mean() == pytest.approx(0.5 * 24 / 25, abs=0.005)
    assert shift.unique().tolist() == [-2, -1, 0, 1, 2]
    assert shift.float().mean().abs() < 0.01


def test_swap_exchanges_the_two_joints_of_a_pair_at_its_rate():
    order = random_swap(SHAPE, 0.1, generator())
    assert torch.equal(order.gather(2, order), torch.arange(17).expand(SHAPE))
    for right, left in SYMMETRIC_PAIRS:
        assert torch.equal(order[..., right] == left, order[..., left] == right)
        assert (order[..., right] == left).float().mean() == pytest.approx(0.1, abs=0.01)
    assert (order[..., [0, 7, 8, 9, 10]] == torch.tensor([0, 7, 8, 9, 10])).all()


def test_only_the_given_share_of_clips_is_augmented():
    masking = NOTHING | {"point": 0.5, "shift": 0.5, "swap": 0.5, "share": 0.25}
    corruption = draw_corruption(SHAPE, masking, generator())
    touched = (~corruption.keep).flatten(1).any(1)
    assert touched.float().mean() == pytest.approx(0.25, abs=0.06)
    assert (corruption.shift[~touched] == 0).all()
    assert torch.equal(corruption.order[~touched], torch.arange(17).expand(int((~touched).sum()), 30, 17))


def test_a_corruption_treats_keypoints_and_maps_alike():
    """One pixel a map at its keypoint: shifted, exchanged and dropped together with it."""
    size, shape = 16, (5, 6, 17)
    pixel = torch.randint(2, size - 2, (*shape, 2), generator=generator())
    coordinates = (2 * pixel + 1) / size - 1
    flat = (pixel[..., 1] * size + pixel[..., 0]).flatten()
    confidence = torch.rand(shape, generator=generator())
    maps = MapEntries(torch.arange(len(flat)), flat, confidence.flatten(), size)
    seen = Observations(coordinates, confidence, torch.zeros(5, 6, 3), maps)
    masking = NOTHING | {"point": 0.3, "shift": 0.5, "swap": 0.5}
    corruption = draw_corruption(shape, masking, generator())
    result = corrupt(seen, corruption, size)
    dense = torch.zeros(5 * 6 * 17, size * size)
    dense[result.maps.map_index, result.maps.pixel] = result.maps.value
    peak, position = dense.max(1)
    kept = corruption.keep.flatten()
    assert torch.equal(peak, result.confidence.flatten())
    assert torch.equal(peak > 0, kept)
    found = (2 * torch.stack([position % size, position // size], 1) + 1) / size - 1
    torch.testing.assert_close(found[kept], result.coordinates.view(-1, 2)[kept])
    assert (result.coordinates.view(-1, 2)[~kept] == 0).all()
    moved = corruption.shift.flatten(0, 2).float() * 2 / size + coordinates.view(-1, 2)
    source = torch.arange(5 * 6 * 17).view(shape) - torch.arange(17) + corruption.order
    torch.testing.assert_close(result.coordinates.view(-1, 2)[kept], moved[source.flatten()][kept])


def test_pixels_that_leave_the_map_are_dropped():
    maps = MapEntries(torch.tensor([0, 0]), torch.tensor([0, 17]), torch.tensor([0.5, 1.0]), 16)
    shape = (1, 1, 17)
    seen = Observations(torch.zeros(1, 1, 17, 2), torch.ones(shape), torch.zeros(1, 1, 3), maps)
    corruption = draw_corruption(shape, NOTHING, generator())
    corruption.shift[0, 0, 0] = torch.tensor([-1, 0])
    result = corrupt(seen, corruption, 16).maps
    assert (result.map_index.tolist(), result.pixel.tolist(), result.value.tolist()) == ([0], [16], [1.0])


def assert_rates(counts, trials, rates):
    """Counts of independent trials lie within five standard deviations of their rates."""
    rates = torch.as_tensor(rates, dtype=torch.float64)
    deviation = (trials * rates * (1 - rates)).sqrt()
    assert ((counts - trials * rates).abs() <= 5 * deviation + 1e-6).all()  # rounding, where a rate is 0 or 1


def coverage(frames, longest):
    """Probability that each frame lies in a run, by listing every length and every start."""
    covered, limit = torch.zeros(frames, dtype=torch.float64), min(longest, frames)
    for length in range(2, limit + 1):
        starts = range(frames - length + 1)
        for start in starts:
            covered[start : start + length] += 1 / (limit - 1) / len(starts)
    return covered


@pytest.mark.parametrize("probability", [0.0, 0.02, 0.2, 1.0])
def test_the_stated_rates_within_five_standard_deviations(probability):
    trials = 400 * 30
    assert_rates((~point_mask(SHAPE, probability, generator())).sum((0, 1)), trials, probability)
    assert_rates((~frame_mask(SHAPE, probability, generator()))[..., 0].sum(), trials, probability)
    swapped = random_swap(SHAPE, probability, generator()) != torch.arange(17)
    for right, left in SYMMETRIC_PAIRS:
        assert torch.equal(swapped[..., right], swapped[..., left])
        assert_rates(swapped[..., right].sum(), trials, probability)
    hidden = ~continuous_point_mask((8000, 3, 17), probability, 40, generator())
    assert_rates(hidden.any(1).sum(0), 8000, probability)
    hidden = ~continuous_frame_mask((8000, 3, 17), probability, 40, generator())
    assert_rates(hidden.any(1)[:, 0].sum(), 8000, probability)


@pytest.mark.parametrize(("frames", "longest"), [(12, 5), (6, 40), (5, 2), (2, 40)])
@pytest.mark.parametrize("mask", [continuous_point_mask, continuous_frame_mask])
def test_every_length_and_every_start_of_a_run_is_equally_likely(mask, frames, longest):
    clips, limit = 20_000, min(longest, frames)
    hidden = ~mask((clips, frames, 1), 1.0, longest, generator())[..., 0]
    lengths = lengths_of_runs(hidden)
    assert lengths.unique().tolist() == list(range(2, limit + 1))
    for length in range(2, limit + 1):
        starts = hidden[lengths == length].int().argmax(1)
        counts = torch.bincount(starts)
        assert len(counts) == frames - length + 1  # from the clip's start to its end
        rates = torch.full((len(counts),), 1 / (limit - 1) / len(counts), dtype=torch.float64)
        assert_rates(counts, clips, rates)


def test_what_all_masks_together_leave_is_the_product_of_what_each_does():
    clips, frames = 20_000, 12
    masking = NOTHING | {"point": 0.2, "frame": 0.1, "continuous_point": 0.3, "continuous_frame": 0.7, "max_length": 5}
    keep = draw_corruption((clips, frames, 17), masking, generator()).keep
    covered = coverage(frames, 5)
    expected = 0.8 * 0.9 * (1 - 0.3 * covered) * (1 - 0.7 * covered)
    for joint in (0, 16):
        assert_rates(keep[..., joint].sum(0), clips, expected)


def test_a_clip_of_one_frame_is_hidden_whole_or_not_at_all():
    for mask in (continuous_point_mask, continuous_frame_mask):
        assert not mask((50, 1, 17), 1.0, 40, generator()).any()
        assert mask((50, 1, 17), 0.0, 40, generator()).all()
