_base_ = ['../oim/oim_r18-fpn_20e_cuhk-sysu.py', '../_base_/distillers/hkd-self.py']
model = dict(_delete_=True, type='PersonSearchDistill', architecture=_base_.model, **_base_.pop('distil'))
