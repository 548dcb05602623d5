_base_ = ['../seqnet/seqnet_r50-c4_20e_cuhk-sysu.py', '../_base_/distillers/hkd.py']
model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::hkd/hkd-head-pretraining_seqnet-r50-c4_20e_cuhk-sysu.py', pretrained=False),
    teacher_ckpt='work_dirs/hkd-head-pretraining_seqnet-r50-c4_20e_cuhk-sysu/epoch_20.pth',
    **_base_.pop('distil'),
)
