_base_ = ['../alignps/alignps_r18-w8_10e_synthps-mini.py', '../_base_/distillers/hkd.py']
model = dict(_delete_=True, architecture=_base_.model, **_base_.distil)
