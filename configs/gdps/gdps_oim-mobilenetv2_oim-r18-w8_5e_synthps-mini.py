_base_ = ['../oim/oim_r18-w8-fpn_5e_synthps-mini.py', '../_base_/distillers/gdps.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::oim/oim_mobilenetv2-fpn_3e_synthps-mini.py', pretrained=False),
    teacher_ckpt='work_dirs/oim_mobilenetv2-fpn_3e_synthps-mini/epoch_3.pth',
    **_base_.pop('distil'),
)
