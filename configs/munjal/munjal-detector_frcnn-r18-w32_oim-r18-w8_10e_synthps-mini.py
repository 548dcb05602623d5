_base_ = ['../oim/oim_r18-w8-fpn_10e_synthps-mini.py', '../_base_/distillers/munjal-detector.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::munjal/munjal-frcnn_r18-w32-fpn_10e_synthps-mini.py', pretrained=False),
    teacher_ckpt='work_dirs/munjal-frcnn_r18-w32-fpn_10e_synthps-mini/epoch_10.pth',
    **_base_.pop('distil'),
)
