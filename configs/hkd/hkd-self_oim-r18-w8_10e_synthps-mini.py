_base_ = ['../oim/oim_r18-w8-fpn_10e_synthps-mini.py', '../_base_/distillers/hkd-self.py']
model = dict(_delete_=True, type='PersonSearchDistill', architecture=_base_.model, **_base_.pop('distil'))
