# Teacher and student of a distillation share their images, so this one takes them as alignps_r50.py does: BGR, in units of
# one grey level. torchvision's weights were trained on others, hence no layer is frozen and batch norm keeps adapting.
_base_ = './alignps_r50.py'
model = dict(
    backbone=dict(
        depth=18,
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[64, 128, 256, 512]))
