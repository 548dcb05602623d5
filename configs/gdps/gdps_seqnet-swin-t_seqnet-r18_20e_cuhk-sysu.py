_base_ = ['../seqnet/seqnet_r18-fpn_20e_cuhk-sysu.py', '../_base_/distillers/gdps.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::seqnet/seqnet_swin-t-fpn_20e_cuhk-sysu.py', pretrained=False),
    teacher_ckpt='work_dirs/seqnet_swin-t-fpn_20e_cuhk-sysu/epoch_20.pth',
    **_base_.pop('distil'),
)
