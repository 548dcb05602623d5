# Diverse knowledge distillation (Zhang et al., AAAI 2021): a re-id network that looks at crops teaches the re-id branch by the
# probabilities of identities, by pairs and by triplets of persons, in boxes that are moved for both (spatial-invariant
# augmentation). No code is published; the weights are ours.
_base_ = './gdps.py'
mappings = _base_.distil.distiller.loss_forward_mappings
distil = dict(
    box_jitter=0.1,
    distiller=dict(
        connectors=dict(_delete_=True),
        distill_losses=dict(
            _delete_=True,
            loss_probability=dict(type='ResponseLoss', temperature=0.1, loss_weight=100.0),
            loss_pairs=dict(type='RelationLoss', loss_weight=10.0),
            loss_triplets=dict(type='TripletRelationLoss', loss_weight=10.0),
        ),
        loss_forward_mappings=dict(
            _delete_=True,
            loss_probability=mappings.loss_response,
            loss_pairs=mappings.loss_relation,
            loss_triplets=mappings.loss_relation,
        ),
    ),
)
