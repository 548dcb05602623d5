_base_ = ['../oim/oim_r50-fpn_20e_cuhk-sysu.py', '../_base_/distillers/munjal-detector.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::munjal/munjal-frcnn_r50-fpn_20e_cuhk-sysu.py', pretrained=False),
    teacher_ckpt='work_dirs/munjal-frcnn_r50-fpn_20e_cuhk-sysu/epoch_20.pth',
    **_base_.pop('distil'),
)
