import pytest
import torch

from mmps.models import EmbeddingHead


@pytest.mark.parametrize('count', [0, 1, 5])
@pytest.mark.parametrize(
    'kwargs', [dict(), dict(roi_feat_size=(3, 2)), dict(fc_dims=(12, 10)), dict(roi_feat_size=(3, 2), fc_dims=(12,))]
)
def test_every_roi_gets_an_embedding_of_unit_length(count, kwargs):
    embeddings = EmbeddingHead(4, 8, **kwargs)(torch.randn(count, 4, 3, 2))
    assert embeddings.shape == (count, 8) and embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(count))


def mirrored_difference(head):
    feats = torch.randn(2, 4, 3, 2)
    return (head(feats) - head(feats.flip(2))).abs().max()


def test_a_roi_feat_size_keeps_positions_and_none_averages():
    torch.manual_seed(0)
    assert mirrored_difference(EmbeddingHead(4, 8)) < 1e-6
    assert mirrored_difference(EmbeddingHead(4, 8, roi_feat_size=(3, 2))) > 1e-2


def test_zero_rois_can_be_backpropagated():
    head = EmbeddingHead(4, 8, fc_dims=(6,))
    feats = torch.randn(0, 4, 3, 3, requires_grad=True)
    head(feats).sum().backward()
    assert feats.grad.shape == feats.shape
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in head.parameters())


def test_embeddings_are_float32_under_autocast():
    with torch.autocast('cpu', dtype=torch.bfloat16):
        embeddings = EmbeddingHead(4, 8)(torch.randn(3, 4, 2, 2))
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
