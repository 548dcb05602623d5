_base_ = ['../seqnet/seqnet_r18-fpn_20e_cuhk-sysu.py', '../_base_/distillers/gdps_single.py']

distiller = _base_.distiller
# C4, the teacher's only map, and the student's level of its stride.
distiller.distill_losses.loss_feature.stride = 16
distiller.connectors.neck.update(out_channel=1024)
distiller.loss_forward_mappings.loss_feature.student.data_idx = 2

model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::seqnet/seqnet_r50-c4_20e_cuhk-sysu.py', pretrained=False),
    teacher_ckpt='work_dirs/seqnet_r50-c4_20e_cuhk-sysu/epoch_20.pth',
    distiller=distiller,
    box_jitter=0.1)
