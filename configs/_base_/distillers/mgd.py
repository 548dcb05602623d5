# MGD (Yang et al., ECCV 2022): from a map with holes the student generates the teacher's whole one. Weight and part of the
# holes are those of its authors' configs for one-stage detectors; for two-stage ones they have 5e-7, for far larger maps, and
# 0.45.
_base_ = './feature.py'
distil = dict(
    distiller=dict(
        connectors=dict(
            neck=dict(
                _delete_=True,
                type='mmrazor.MGDConnector',
                student_channels='student_channels',
                teacher_channels='teacher_channels',
                lambda_mgd=0.65,
            )
        ),
        distill_losses=dict(loss_feature=dict(type='mmrazor.MGDLoss', alpha_mgd=2e-5)),
    )
)
