# Sourced by the train_dinov2* recipes: `foundation SIZE RECIPE arguments …` trains on GTAV with a
# DINOv2 of a size (l, s), and one of these:
#   rein       Rein and Mask2Former, as published for ViT-L
#   soma       SoMA and Mask2Former, as published for ViT-L
#   lora       LoRA on queries, keys and values, and a plain head (VFMSeg's rank and dropout, here at
#              512 x 512 as all of these)
#   frozen     nothing of the trunk, and a linear head
#   soma_srha  SRHA on the recipe of SoMA
# TRUNK.WEIGHTS names a file of DINOv2 where there is no network. Published: 1 GPU x 4 images, 40 000
# iterations.
requirements=requirements-extra.txt
. "$(dirname "$0")/recipe.sh"

GPUS=${GPUS:-1}

foundation() {
    size=$1 own=$2 default=baseline
    shift 2
    [ "$own" != soma_srha ] || default=srha
    method=${METHOD:-$default} trunk=dinov2_$size
    case $own in
        rein) set -- --tuning rein --decoder mask2former TRAIN.LR_ENCODER 1e-4 "$@" ;;
        soma | soma_srha)
            set -- --tuning soma --decoder mask2former TRAIN.LR_ENCODER 5e-5 \
                TRAIN.WEIGHT_DECAY_END 1e-5 TRAIN.EMA 0.9998 TRAIN.EMA_START 12000 \
                VALID.EVERY 4000 "$@" ;;
        lora)
            set -- --tuning lora --decoder plain TRAIN.LR_ENCODER 1e-4 TUNING.RANK 32 \
                TUNING.ALPHA 32 TUNING.DROPOUT 0.1 TUNING.TARGETS qkv "$@" ;;
        frozen) set -- --tuning frozen --decoder linear TRAIN.LR_ENCODER 1e-4 "$@" ;;
    esac
    name=dinov2${size}_gtav_$own
    [ "$method" = "$default" ] || name=${name}_$method
    run train.py --dataset gtav --val_dataset cityscapes bdd100k mapillary \
        --method "$method" --trunk "$trunk" --exp "$name" VALID.PROTOCOL rein \
        DATASET.SAMPLING random TRANSFORM.CROP_SIZE 512,512 TRANSFORM.MAX_CLASS_SHARE 0.75 \
        TRANSFORM.SHORT_EDGES 256,307,358,409,460,512,563,614,665,716,768,819,870,921,972,1024 \
        TRANSFORM.JITTER 0.125,0.5,0.5,0.1 TRANSFORM.BLUR_PROBABILITY 0 \
        TRAIN.OPTIMIZER adamw TRAIN.LR_DECODER 1e-4 TRAIN.WEIGHT_DECAY 0.05 \
        TRAIN.NO_DECAY norms,embeddings TRAIN.CLIP_NORM 0 TRAIN.MAX_ITER 40000 \
        TRAIN.BATCH_SIZE 4 TRAIN.BATCH_PER_PROCESS 4 "$@"
}
