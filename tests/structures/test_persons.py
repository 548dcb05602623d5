import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes, bbox_overlaps

from mmps.structures import jitter_boxes, person_boxes, sample_background_boxes, with_area


def test_person_boxes_are_one_tensor_per_image(make_batch):
    _, samples = make_batch([[3, -1], []])
    boxes = samples[0].gt_instances.bboxes
    samples[0].gt_instances.bboxes = HorizontalBoxes(boxes)
    found = person_boxes(samples)
    assert torch.equal(found[0], boxes) and type(found[0]) is torch.Tensor
    assert found[1].shape == (0, 4)


@pytest.mark.parametrize('amount', [0.1, 0.49])
def test_jitter_moves_an_edge_by_at_most_the_given_fraction(amount):
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 20, 50, 140], [0, 0, 2, 3]]).repeat(200, 1)
    (moved,) = jitter_boxes([boxes], amount)
    share = (moved - boxes).abs() / (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    assert share.max() <= amount and share.max() > 0.9 * amount
    assert ((moved[:, 2:] - moved[:, :2]) > 0).all()
    assert (moved - boxes).mean(0).abs().max() < 0.2 * amount * 120


def test_no_jitter_keeps_the_boxes():
    boxes = [torch.rand(3, 4), torch.zeros(0, 4)]
    assert all(torch.equal(a, b) for a, b in zip(jitter_boxes(boxes, 0), boxes, strict=True))


def test_an_image_without_persons_keeps_an_empty_tensor():
    assert [len(boxes) for boxes in jitter_boxes([torch.zeros(0, 4), torch.rand(2, 4)], 0.1)] == [0, 2]


def test_the_input_boxes_are_not_changed():
    boxes = torch.tensor([[10.0, 20, 50, 140]])
    before = boxes.clone()
    jitter_boxes([boxes], 0.3)
    assert torch.equal(boxes, before)


def test_sample_background_boxes_are_of_the_same_size_and_mostly_background():
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 20, 50, 140], [0, 0, 2, 3]]).repeat(500, 1)
    beside, none = sample_background_boxes([boxes, boxes[:0]])
    assert beside.shape == boxes.shape and none.shape == (0, 4)
    size = boxes[:, 2:] - boxes[:, :2]
    torch.testing.assert_close(beside[:, 2:] - beside[:, :2], size)
    sideways, upwards = ((beside - boxes)[:, :2] / size).T
    assert 0.5 <= sideways.abs().min() < 0.55 and 1.45 < sideways.abs().max() <= 1.5
    assert upwards.abs().max() <= 0.5 and upwards.min() < -0.45 and upwards.max() > 0.45
    assert (sideways > 0).float().mean() == pytest.approx(0.5, abs=0.05)
    overlaps = bbox_overlaps(beside, boxes, is_aligned=True)
    assert overlaps.max() <= 1 / 3 and (overlaps == 0).float().mean() == pytest.approx(0.5, abs=0.05)


def test_a_box_without_area_gets_one_pixel_and_others_stay():
    boxes = torch.tensor([[4.0, 6, 24, 58], [4, 6, 4, 58], [4, 6, 2, 1], [4, 6, 4.5, 7], [-3, -9, -2, -1]])
    expected = torch.tensor([[4.0, 6, 24, 58], [4, 6, 5, 58], [4, 6, 5, 7], [4, 6, 5, 7], [-3, -9, -2, -1]])
    assert torch.equal(with_area(boxes), expected)
    assert with_area(boxes[:0]).shape == (0, 4)
