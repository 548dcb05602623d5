# ResNet-18 at an eighth of its width and plain convolutions: trains from scratch on two CPU cores.
_base_ = './alignps_r18.py'
model = dict(
    backbone=dict(
        base_channels=8,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=dict(_delete_=True, type='Kaiming', layer='Conv2d')),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=64, conv_cfg=None),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        dcn_on_last_conv=False,
        norm_cfg=dict(num_groups=8),
        reid_loss=dict(embed_dims=64, queue_size=200)))
