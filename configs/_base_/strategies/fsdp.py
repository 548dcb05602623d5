# For a model that one card does not hold: weights, gradients and optimizer state are spread over the ranks (FSDP).
runner_type = 'ShardedRunner'
strategy = dict(
    type='ShardedStrategy',
    blocks=('BasicBlock', 'Bottleneck'),  # class names of the backbone's blocks; a Swin has SwinBlock
    model_wrapper=dict(sharding_strategy='FULL_SHARD'),
)
# Activations are MMDetection's affair: model.backbone.with_cp = True computes a block's again in the backward pass.
