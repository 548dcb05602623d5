_base_ = ['../oim/oim_r50-fpn_20e_cuhk-sysu.py', '../_base_/distillers/dkd.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::reid/reid_r50_20e_cuhk-sysu.py', pretrained=False),
    teacher_ckpt='work_dirs/reid_r50_20e_cuhk-sysu/epoch_20.pth',
    **_base_.pop('distil'),
)
