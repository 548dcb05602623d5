_base_ = '../seqnet/seqnet_mobilenetv2-fpn_3e_synthps-mini.py'
model = dict(_delete_=True, type='CropReIDHead', detector=_base_.model, crop_size=(96, 48))
