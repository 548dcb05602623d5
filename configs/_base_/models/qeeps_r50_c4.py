# QEEPS (Munjal et al., CVPR 2019): OIM as published, guided by the query.
_base_ = './oim_r50_c4.py'
model = dict(type='QEEPS', rpn_head=dict(type='QueryRPNHead'))
