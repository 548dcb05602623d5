# EfficientNet-Lite0 with ImageNet weights: a teacher of another family.
_base_ = './oim_r18-w32_fpn.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='EfficientNetLite',
        out_indices=(2, 3, 4, 5),  # strides 4, 8, 16 and 32
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet_lite0'),
    ),
    neck=dict(in_channels=[24, 40, 112, 320]),
)
