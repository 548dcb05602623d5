# ResNet-18 at an eighth of its width and plain convolutions: trains from scratch on two CPU cores. A thousand steps without
# ImageNet weights need another recipe than the paper's: a map of stride 4, embeddings that are standardised over persons, OIM
# without focal factor and triplets, and a lookup table of higher momentum. A batch holds some ten points of every person: with
# the paper's 0.5 a row would forget all other images at once, and the embeddings hardly learn.
_base_ = './alignps_r18.py'
model = dict(
    backbone=dict(
        base_channels=8, frozen_stages=-1, norm_eval=False, init_cfg=dict(_delete_=True, type='Kaiming', layer='Conv2d')
    ),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=32, start_level=0, num_outs=4, conv_cfg=None),
    bbox_head=dict(
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        strides=[4, 8, 16, 32],
        center_sample_radius=2.0,
        dcn_on_last_conv=False,
        norm_cfg=dict(num_groups=8),
        batch_norm=True,
        reid_loss=dict(
            embed_dims=32, queue_size=200, momentum=0.9, scale=16.0, gamma=0.0, normalize=True, queue_dims=None, loss_weight=0.5
        ),
        triplet_loss=None,
        embed_from='centre',
    ),
)
