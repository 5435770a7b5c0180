"""Instance masks on the latent grid."""

import pytest
import torch

from amdm_framework.regions import instance_masks
from amdm_framework.scene import Instance, Scene

CPU = torch.device("cpu")


def scene(*boxes):
    return Scene(instances={str(i): Instance(phrase="thing", box=box) for i, box in enumerate(boxes)})


def test_a_box_on_cell_borders_is_a_hard_mask():
    masks = instance_masks([scene((0.25, 0.5, 0.75, 1.0))], 4, 8, CPU)
    expected = torch.zeros(1, 1, 4, 8)
    expected[0, 0, 2:4, 2:6] = 1
    assert torch.equal(masks, expected)


@pytest.mark.parametrize("box", [(0.1, 0.2, 0.33, 0.9), (0.0, 0.0, 1.0, 1.0), (0.49, 0.49, 0.51, 0.51)])
def test_a_mask_covers_exactly_the_area_of_its_box(box):
    mask = instance_masks([scene(box)], 8, 8, CPU)
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert mask.sum().item() / 64 == pytest.approx(area, abs=1e-6)
    assert mask.min() >= 0 and mask.max() <= 1


def test_scenes_with_fewer_instances_get_empty_masks():
    masks = instance_masks([scene((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)), scene((0, 0, 1, 1)), Scene()], 4, 4, CPU)
    assert masks.shape == (3, 2, 4, 4)
    assert masks.sum((2, 3)).tolist() == [[4, 4], [16, 0], [0, 0]]
