_base_ = ['../alignps/alignps_r18_24e_cuhk-sysu.py', '../_base_/distillers/cwd.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::alignps/alignps_r50-dcn_24e_cuhk-sysu.py', pretrained=False),
    teacher_ckpt='work_dirs/alignps_r50-dcn_24e_cuhk-sysu/epoch_24.pth',
    **_base_.pop('distil'),
)
