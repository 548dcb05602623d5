# ResNet-18 at half its width (resnet18x05, the smallest student of DDPS); there are no ImageNet weights for it.
_base_ = './seqnet_r18_fpn.py'
model = dict(
    backbone=dict(
        base_channels=32, frozen_stages=-1, norm_eval=False, init_cfg=dict(_delete_=True, type='Kaiming', layer='Conv2d')
    ),
    neck=dict(in_channels=[32, 64, 128, 256]),
)
