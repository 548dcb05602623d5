# Faster R-CNN: OIM's detector without its re-id branch.
_base_ = './oim_r50_fpn.py'
_base_.model.roi_head.pop('embedding_head')
_base_.model.roi_head.pop('reid_loss')
model = dict(type='PersonDetector', roi_head=dict(type='StandardRoIHead'))
