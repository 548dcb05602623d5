_base_ = ['../oim/oim_r50-c4_50k_cuhk-sysu.py', '../_base_/distillers/munjal-detector.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::qeeps/qeeps_r50-c4_20e_cuhk-sysu.py', pretrained=False),
    teacher_ckpt='work_dirs/qeeps_r50-c4_20e_cuhk-sysu/epoch_20.pth',
    **_base_.pop('distil'),
)
