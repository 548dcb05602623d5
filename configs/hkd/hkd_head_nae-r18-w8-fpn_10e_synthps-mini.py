_base_ = ['../nae/nae_r18-w8-fpn_10e_synthps-mini.py', '../_base_/distillers/hkd.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::hkd/hkd-head-pretraining_nae-r18-w8-fpn_10e_synthps-mini.py', pretrained=False),
    teacher_ckpt='work_dirs/hkd-head-pretraining_nae-r18-w8-fpn_10e_synthps-mini/epoch_10.pth',
    **_base_.pop('distil'),
)
