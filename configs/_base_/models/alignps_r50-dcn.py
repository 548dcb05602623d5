# AlignPS+: deformable convolutions in the backbone's last three stages.
_base_ = './alignps_r50.py'
model = dict(
    backbone=dict(dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False), stage_with_dcn=(False, True, True, True))
)
