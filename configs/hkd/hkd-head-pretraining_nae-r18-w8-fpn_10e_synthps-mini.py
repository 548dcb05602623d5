_base_ = '../nae/nae_r18-w8-fpn_10e_synthps-mini.py'
model = dict(_delete_=True, type='CropReIDHead', detector=_base_.model, crop_size=(96, 48))
