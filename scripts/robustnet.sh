# Sourced by the recipes of RobustNet's code, which SHADE stands on: `robustnet NETWORK SOURCE METHOD
# arguments …`. Published: 40 000 iterations at one rate of 0.01 for all parameters; 4 GPUs x 4
# images, or 2 x 8 for MobileNetV2 and ShuffleNetV2 but MobileNetV2's ISW; 2 x 4 from Cityscapes and
# for SHADE. WildNet: 60 000 at 0.0025, 2 x 4.
. "$(dirname "$0")/recipe.sh"

robustnet() {
    network=$1 source=$2 own=$3 method=${METHOD:-$3} images=16 per_gpu=4
    shift 3
    case $network in
        r50os16) trunk=resnet50 weight=0.6 clusters=3 ;;
        r101os16) trunk=resnet101 weight=0.6 clusters=3 ;;
        mobile) trunk=mobilenet_v2 weight=1.0 clusters=20 ;;
        shuffle) trunk=shufflenet_v2_x1_0 weight=0.8 clusters=2 ;;
    esac
    case $network-$method in
        mobile-isw) ;;
        mobile-* | shuffle-*) per_gpu=8 ;;
    esac
    steps=40000 rate=0.01
    case $own in
        shade) images=8 ;;
        wildnet) images=8 steps=60000 rate=0.0025 ;;
    esac
    case $source in
        gtav) dataset=gtav unseen="cityscapes bdd100k mapillary" ;;
        city) dataset=cityscapes unseen="bdd100k mapillary gtav" images=8 clusters=2 ;;
    esac
    dry=
    case $method in
        isw)
            set -- WHITENING.WEIGHT "$weight" ISW.CLUSTERS "$clusters" "$@"
            dry="ISW.START_EPOCH 0 ISW.TRIALS 2 ISW.IMAGES 2"
            ;;
        iw) [ "$source" = gtav ] || set -- WHITENING.WEIGHT 0.6 "$@" ;;
        irw) [ "$source" = gtav ] || set -- IRW.RELAXATION 32 "$@" ;;
        shade) dry="SHADE.BASES 6" ;;
        wildnet) dry="CONTENT.DICTIONARY 600 DATASET.WILD gtav:train" ;;
    esac
    [ "${DRY_RUN:-0}" = 1 ] || dry=
    # Names of their own where another recipe trains the method in another way.
    case $own-$method in
        shade-shade | wildnet-wildnet | [bi]*-ibn | [bi]*-iw | [bi]*-irw | [bi]*-isw) name=$method ;;
        shade-* | wildnet-*) name=${own}_$method ;;
        *-baseline) name=robustnet_base ;;
        *) name=robustnet_$method ;;
    esac
    # shellcheck disable=SC2086  # lists of words
    run train.py --dataset "$dataset" --val_dataset $unseen \
        --method "$method" --trunk "$trunk" --exp "${network}_${source}_$name" \
        TRUNK.OUTPUT_STRIDE 16 TRAIN.MAX_ITER "$steps" \
        TRAIN.BATCH_SIZE "$images" TRAIN.BATCH_PER_PROCESS "$per_gpu" \
        TRAIN.LR_ENCODER "$rate" TRAIN.LR_DECODER "$rate" TRANSFORM.CROP_SIZE 768,768 "$@" $dry
}
