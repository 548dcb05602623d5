_base_ = './dkd_reid-r50_oim-r50_20e_prw.py'
model = dict(distiller=dict(losses=['loss_probability', 'loss_triplets']))
