_base_ = ['../alignps/alignps_r18_24e_prw.py', '../_base_/distillers/gdps.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::alignps/alignps_r50-dcn_24e_prw.py', pretrained=False),
    teacher_ckpt='work_dirs/alignps_r50-dcn_24e_prw/epoch_24.pth',
    **_base_.pop('distil'),
)
