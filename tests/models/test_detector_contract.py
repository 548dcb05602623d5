"""A detector that lacks a member of the PersonSearchDetector contract cannot be built."""

import pytest
from mmdet.models.detectors import BaseDetector, SingleStageDetector, TwoStageDetector
from torch import nn

from mmps.models.detectors.base import PersonSearchDetector
from mmps.registry import MODELS

MEMBERS = sorted(PersonSearchDetector.__abstractmethods__)
OWN_MEMBERS = sorted(PersonSearchDetector.__abstractmethods__ - BaseDetector.__abstractmethods__)


def subclass(*missing, bases=()):
    """Returns a detector class that sets all members to None, as a detector without the part does, except the missing ones."""
    members = {name: None for name in MEMBERS if name not in missing}
    return type('IncompleteDetector', (PersonSearchDetector, *bases), members)


def test_all_members_are_required_and_documented():
    assert {'extract_feat', 'loss_from_feats', 'detect', 'embed_boxes', 'refine_boxes'} < set(MEMBERS)
    assert {'memory', 'dense_head', 'run_dense_head'} < set(OWN_MEMBERS)
    for name in MEMBERS:
        assert f'    ``{name}' in PersonSearchDetector.__doc__


@pytest.mark.parametrize('bases', [(), (SingleStageDetector,), (TwoStageDetector,), (nn.Module,)])
@pytest.mark.parametrize('missing', [*([name] for name in OWN_MEMBERS), OWN_MEMBERS])
def test_a_missing_member_is_named_when_the_detector_is_built(missing, bases):
    with pytest.raises(TypeError, match=r'IncompleteDetector.* abstract method') as error:
        subclass(*missing, bases=bases)()
    message = str(error.value)
    assert '\n' not in message
    assert [name for name in MEMBERS if name in message.replace(',', ' ').replace("'", ' ').split()] == missing


def test_the_registry_reports_a_missing_member(mmps_scope, monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'IncompleteDetector', subclass('embed_boxes'))
    with pytest.raises(TypeError, match=r'IncompleteDetector.* embed_boxes'):
        MODELS.build(dict(type='IncompleteDetector'))


def test_a_member_may_be_none():
    assert subclass()().embed_boxes is None
