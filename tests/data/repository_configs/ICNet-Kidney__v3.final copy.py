# v3: aux loss 0.4 -> 0.2   (v2 was worse: 0.71)
# TODO: try lr 1e-3
lr          = 0.001   # was 0.01
bs          = 4
EPOCHS      = 50
IMG         = 128
DATA        = r'D:\kidney\v3'
ON_SERVER   = True
if ON_SERVER :
        DATA = '/home/user/kidney/v3'
norm_cfg    = dict( type = 'SyncBN' , requires_grad = True )
data_preprocessor = dict( type = 'SegDataPreProcessor' , mean = None , std = None , bgr_to_rgb = True , pad_val = 0 , seg_pad_val = 255 , size = ( IMG , IMG ) )
model = dict(
    type             = 'EncoderDecoder'   ,
    data_preprocessor= data_preprocessor  ,
    backbone         = dict( type = 'ICNet' , backbone_cfg = dict( type = 'ResNetV1c' , in_channels = 3 , depth = 18 , base_channels = 4 , stem_channels = 4 , num_stages = 4 , out_indices = ( 0 , 1 , 2 , 3 ) , dilations = ( 1 , 1 , 2 , 4 ) , strides = ( 1 , 2 , 1 , 1 ) , norm_cfg = norm_cfg , norm_eval = False , style = 'pytorch' , contract_dilation = True ) ,
                             in_channels = 3 , layer_channels = ( 8 , 32 ) , light_branch_middle_channels = 4 , psp_out_channels = 8 , out_channels = ( 4 , 8 , 8 ) , norm_cfg = norm_cfg , align_corners = False ) ,
    neck             = dict( type = 'ICNeck' , in_channels = ( 4 , 8 , 8 ) , out_channels = 8 , norm_cfg = norm_cfg , align_corners = False ) ,
    decode_head      = dict( type = 'FCNHead' , in_channels = 8 , channels = 8 , num_convs = 1 , in_index = 2 , dropout_ratio = 0 , num_classes = 3 , norm_cfg = norm_cfg , concat_input = False , align_corners = False ,
                             loss_decode = [ dict( type = 'CrossEntropyLoss' , loss_name = 'loss_ce' , loss_weight = 1.0 ) , dict( type = 'TverskyLoss' , loss_name = 'loss_tversky' , loss_weight = 0.5 , ignore_index = 255 ) ] ) ,
    auxiliary_head   = [ dict( type = 'FCNHead' , in_channels = 8 , channels = 8 , num_convs = 1 , num_classes = 3 , in_index = k , norm_cfg = norm_cfg , concat_input = False , align_corners = False , loss_decode = dict( type = 'CrossEntropyLoss' , use_sigmoid = False , loss_weight = 0.2 ) ) for k in [ 0 , 1 ] ] ,
    train_cfg = dict( ) , test_cfg = dict( mode = 'whole' ) )
meta = dict( classes = [ 'bg' , 'kidney' , 'tumor' ] , palette = [ [ 0 , 0 , 0 ] , [ 255 , 0 , 0 ] , [ 0 , 255 , 0 ] ] )
tr = [ dict( type = 'LoadImageFromFile' ) , dict( type = 'LoadAnnotations' ) , dict( type = 'Resize' , scale = ( IMG , IMG ) , keep_ratio = False ) ,
       dict( type = 'Albu' , transforms = [ dict( type = 'HorizontalFlip' , p = 0.5 ) , dict( type = 'RandomRotate90' , p = 0.5 ) , dict( type = 'CLAHE' , clip_limit = ( 1 , 4 ) , tile_grid_size = ( 8 , 8 ) , p = 0.3 ) ] ) ,
       dict( type = 'PackSegInputs' ) ]
te = tr[ : 3 ] + tr[ 4 : ]
def ds( part , pl , ** kw ) : return dict( type = 'BaseSegDataset' , data_root = DATA , metainfo = meta , img_suffix = '.png' , seg_map_suffix = '.png' , data_prefix = dict( img_path = part + '/img' , seg_map_path = part + '/msk' ) , pipeline = pl , ** kw )
train_dataloader = dict( batch_size = bs , num_workers = 4 , persistent_workers = True , sampler = dict( type = 'DefaultSampler' , shuffle = True ) , dataset = ds( 'train' , tr , label_map = { 127 : 1 , 255 : 2 } if False else None ) if False else ds( 'train' , tr ) )
val_dataloader   = dict( batch_size = 1  , num_workers = 4 , persistent_workers = True , sampler = dict( type = 'DefaultSampler' , shuffle = False ) , dataset = ds( 'val' , te ) )
test_dataloader  = dict( batch_size = 1  , num_workers = 4 , persistent_workers = True , sampler = dict( type = 'DefaultSampler' , shuffle = False ) , dataset = ds( 'test' , te ) )
val_evaluator    = dict( type = 'IoUMetric' , iou_metrics = [ 'mIoU' , 'mDice' , 'mFscore' ] )
test_evaluator   = dict( type = 'IoUMetric' , iou_metrics = [ 'mIoU' , 'mDice' , 'mFscore' ] , output_dir = 'pred' , keep_results = False ) if False else val_evaluator
optimizer        = dict( type = 'RAdam' , lr = lr , weight_decay = 1e-4 )
optim_wrapper    = dict( type = 'OptimWrapper' , optimizer = optimizer , accumulative_counts = 2 )
param_scheduler  = [ dict( type = 'CosineAnnealingLR' , T_max = EPOCHS , by_epoch = True , eta_min = lr / 100 ) ]
train_cfg        = dict( type = 'EpochBasedTrainLoop' , max_epochs = EPOCHS , val_interval = 1 )
val_cfg          = dict( type = 'ValLoop' )
test_cfg         = dict( type = 'TestLoop' )
default_scope    = 'mmseg'
default_hooks    = dict( timer = dict( type = 'IterTimerHook' ) , logger = dict( type = 'LoggerHook' , interval = 10 ) , param_scheduler = dict( type = 'ParamSchedulerHook' ) , checkpoint = dict( type = 'CheckpointHook' , interval = 1 , save_best = 'mDice' , rule = 'greater' , max_keep_ckpts = 1 ) , sampler_seed = dict( type = 'DistSamplerSeedHook' ) , visualization = dict( type = 'SegVisualizationHook' , draw = True , interval = 20 ) )
vis_backends     = [ dict( type = 'LocalVisBackend' ) , dict( type = 'WandbVisBackend' , init_kwargs = dict( project = 'kidney' , name = 'icnet v3 (lr=%g)' % lr ) ) , dict( type = 'ClearMLVisBackend' ) ]
visualizer       = dict( type = 'SegLocalVisualizer' , vis_backends = vis_backends , name = 'visualizer' )
log_processor    = dict( by_epoch = True )
log_level        = 'INFO'
work_dir         = './work_dirs/kidney v3/' + 'icnet_%d' % IMG
