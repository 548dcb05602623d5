from . import anchors, backbones, dense_heads, detectors, losses, necks, pretrained, roi_heads
from .embedding_heads import EmbeddingHead, NormAwareEmbedding
from .memory import IdentityMemory

__all__ = [
    'EmbeddingHead',
    'IdentityMemory',
    'NormAwareEmbedding',
    'anchors',
    'backbones',
    'dense_heads',
    'detectors',
    'losses',
    'necks',
    'pretrained',
    'roi_heads',
]
