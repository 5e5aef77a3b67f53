/// What MMEngine itself makes of our checkpoints, where Python has it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

/// Resumes a checkpoint with MMEngine's runner and MMSegmentation's model, prints what was
/// restored, and continues training. Exit code 77: these are not installed.
constexpr const char* kResume = R"(
import sys
try:
    import mmengine, mmseg.models, yaml
except ImportError:
    sys.exit(77)
import torch
from mmengine.hooks import Hook
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

config, checkpoint, work_dir = sys.argv[1:]
cfg = yaml.safe_load(open(config))
saved = torch.load(checkpoint, weights_only=True)

class Noise(torch.utils.data.Dataset):
    metainfo = {}
    def __len__(self):
        return 9
    def __getitem__(self, i):
        label = PixelData(data=torch.full((1, 32, 32), i % 5))
        return dict(inputs=torch.full((3, 32, 32), 20 * i, dtype=torch.uint8),
                    data_samples=SegDataSample(gt_sem_seg=label))

class Compare(Hook):
    def before_train(self, runner):
        ema = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model
        weights, mean = runner.model.state_dict(), ema.module.state_dict()
        # The file has the mean where tests look for weights.
        print('weights', all(torch.equal(weights[k], saved['ema_state_dict']['module.' + k])
                             for k in weights if weights[k].is_floating_point()))
        print('mean', all(torch.equal(mean[k], saved['state_dict'][k]) for k, v
                          in runner.model.named_parameters()))
        inner = runner.optim_wrapper.optimizer.state_dict()
        print('optimiser', len(inner['state']), all(
            torch.equal(s['exp_avg'], saved['optimizer']['state'][i]['exp_avg'])
            and s['step'] == 4 for i, s in inner['state'].items()))
        optimizer = torch.optim.AdamW(runner.model.parameters(), lr=0.003)
        fresh = [PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer))
                 for s in cfg['param_scheduler']]
        for _ in range(4):
            optimizer.step()
            for scheduler in fresh:
                scheduler.step()
        print('rates', abs(optimizer.param_groups[0]['lr'] - inner['param_groups'][0]['lr']) < 1e-9,
              [(s.last_step, s._global_step) for s in fresh]
              == [(s.last_step, s._global_step) for s in runner.param_schedulers])
        print('iter', runner.iter, runner.message_hub.get_info('iter'))

runner = Runner(
    model=cfg['model'], work_dir=work_dir, default_scope='mmseg', load_from=checkpoint, resume=True,
    train_dataloader=dict(batch_size=3, num_workers=0, dataset=Noise(),
                          sampler=dict(type='InfiniteSampler', shuffle=True),
                          collate_fn=dict(type='pseudo_collate')),
    train_cfg=dict(type='IterBasedTrainLoop', max_iters=6), optim_wrapper=cfg['optim_wrapper'],
    param_scheduler=cfg['param_scheduler'], randomness=dict(seed=3),
    custom_hooks=[dict(type='EMAHook', momentum=0.1), Compare()])
runner.train()
print('trained to', runner.iter)
)";

TEST(MmengineReads, ItsRunnerResumesOurCheckpoint) {
  const std::string python = python_with_torch();
  if (python.empty()) GTEST_SKIP() << "no Python with torch";
  const TempDir dir;
  setenv("OMP_NUM_THREADS", "1", 1);
  const std::string config = dir.write("tiny.yaml", tiny_run_yaml());
  const auto trained = run_command(program_path("train") + " " + config + " --work-dir " +
                                   dir / "a" + " --cfg-options train_cfg.max_iters=4");
  ASSERT_EQ(trained.status, 0) << trained.output;
  const auto resumed = run_python(
      python, kResume, dir / "a/tiny.yaml" + " " + dir / "a/iter_4.pth" + " " + dir / "b");
  if (resumed.status == 77) GTEST_SKIP() << "no mmengine and mmseg (see $SEGCORE_PYTHON)";
  EXPECT_EQ(resumed.status, 0) << resumed.output;
  for (const char* line : {"\nweights True\n", "\nmean True\n", "\nrates True True\n",
                           "\niter 4 4\n", "\ntrained to 6\n"}) {
    EXPECT_THAT(resumed.output, ::testing::HasSubstr(line));
  }
  EXPECT_THAT(resumed.output, ::testing::ContainsRegex("\noptimiser [1-9][0-9]* True\n"));
}

}  // namespace
}  // namespace seg::test
