_base_ = ['../seqnet/seqnet_mobilenetv2-fpn_3e_synthps-mini.py', '../_base_/distillers/hkd.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::hkd/hkd-head-pretraining_seqnet-mobilenetv2-fpn_3e_synthps-mini.py', pretrained=False),
    teacher_ckpt='work_dirs/hkd-head-pretraining_seqnet-mobilenetv2-fpn_3e_synthps-mini/epoch_3.pth',
    **_base_.pop('distil'),
)
