# QEEPS on the small OIM detector: one QSSE block per level of the FPN.
_base_ = './oim_r18-w8_fpn.py'
model = dict(type='QEEPS', rpn_head=dict(type='QueryRPNHead'))
