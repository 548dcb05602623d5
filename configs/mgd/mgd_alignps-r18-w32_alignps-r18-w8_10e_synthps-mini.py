_base_ = ['../alignps/alignps_r18-w8_10e_synthps-mini.py', '../_base_/distillers/mgd.py']
model = dict(
    _delete_=True,
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::alignps/alignps_r18-w32_10e_synthps-mini.py', pretrained=False),
    teacher_ckpt='work_dirs/alignps_r18-w32_10e_synthps-mini/epoch_10.pth',
    **_base_.distil,
)
