_base_ = ['../alignps/alignps_r18-w8_10e_synthps-mini.py', '../_base_/distillers/gdps_single.py']

distiller = _base_.distiller
# The finest map of either has stride 4.
distiller.distill_losses.loss_feature.stride = 4
distiller.connectors.neck.update(in_channel=64, out_channel=64)

model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::seqnet/seqnet_r18-w32-fpn_10e_synthps-mini.py', pretrained=False),
    teacher_ckpt='work_dirs/seqnet_r18-w32-fpn_10e_synthps-mini/epoch_10.pth',
    distiller=distiller,
    box_jitter=0.1)
