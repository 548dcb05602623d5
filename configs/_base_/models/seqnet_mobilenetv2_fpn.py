_base_ = './seqnet_r50_fpn.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='TrimmedMobileNetV2',
        out_indices=(1, 2, 4, 6),  # strides 4, 8, 16 and 32
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://mmdet/mobilenet_v2'),
    ),
    neck=dict(in_channels=[24, 32, 96, 320]),
)
