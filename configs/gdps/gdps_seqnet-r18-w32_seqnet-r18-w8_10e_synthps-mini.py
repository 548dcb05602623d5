_base_ = ['../seqnet/seqnet_r18-w8-fpn_10e_synthps-mini.py', '../_base_/distillers/gdps_fpn.py']

distiller = _base_.distiller
distiller.connectors = {
    name: dict(connector, in_channel=32, out_channel=64)
    for name, connector in distiller.connectors.items()
}

model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::seqnet/seqnet_r18-w32-fpn_10e_synthps-mini.py', pretrained=False),
    teacher_ckpt='work_dirs/seqnet_r18-w32-fpn_10e_synthps-mini/epoch_10.pth',
    distiller=distiller,
    box_jitter=0.1)
