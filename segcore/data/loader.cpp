#include "segcore/data/loader.hpp"

#include <ATen/Context.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <opencv2/core/utility.hpp>
#include <thread>
#include <vector>

#include "registry/error.hpp"
#include "segcore/data/label_values.hpp"

namespace seg {

Schema<DataLoaderParams> DataLoaderParams::schema() {
  using P = DataLoaderParams;
  const std::string threads = "accepted: workers are threads, not processes";
  return Schema<P>("Loads batches in threads ahead of their use.")
      .optional("batch_size", &P::batch_size, "samples a batch and process", at_least(1))
      .optional("num_workers", &P::num_workers, "threads that load; 0: the caller's own",
                in_range(0, 1024))
      .required("dataset", &P::dataset, "what is loaded")
      .optional("sampler", &P::sampler,
                "order of the samples; null: DefaultSampler, which shuffles for training")
      .optional("persistent_workers", &P::persistent_workers,
                "threads stay between passes over the data set")
      .optional("pin_memory", &P::pin_memory,
                "page-locked memory, from which a GPU copies by itself; null: where a GPU is used")
      .optional("drop_last", &P::drop_last, "leaves out the last batch of a pass if it is short")
      .optional("prefetch_factor", &P::prefetch_factor,
                "batches loaded ahead for each worker; null: 2", at_least(1))
      .optional("num_batch_per_epoch", &P::num_batch_per_epoch,
                "only as many samples as this number of batches takes; null: all", at_least(1))
      .accepted("collate_fn", "accepted: samples of a batch are kept apart, as pseudo_collate does")
      .accepted("batch_sampler", "accepted: batches are batch_size samples in the sampler's order")
      .accepted("worker_init_fn", "accepted: randomness does not depend on the worker")
      .accepted("pin_memory_device", "accepted: page-locked memory serves all devices")
      .accepted("multiprocessing_context", threads)
      .accepted("timeout", threads);
}

namespace {

/// A batch in the making.
struct BatchSlot {
  std::vector<Draw> draws;
  std::vector<std::vector<PackedSample>> loaded;  ///< by draw
  size_t taken = 0;                               ///< draws that some worker has taken
  size_t missing = 0;                             ///< draws that are not loaded yet
  std::exception_ptr error;                       ///< of the first draw that failed
  size_t error_at = SIZE_MAX;
};

/// The error that is being handled, with the file it is about.
std::exception_ptr loader_error(const Dataset& dataset, size_t index) {
  std::string where = text("sample ", index);
  std::pair<std::string, std::string> files;
  try {
    files = dataset.paths(index);
    if (!files.first.empty()) where += " (" + files.first + ")";
  } catch (...) {  // the number alone then
  }
  try {
    throw;
  } catch (const DataError& e) {
    const std::string message = e.what();
    for (const auto& file : {files.first, files.second}) {
      // Most errors name the file themselves.
      if (!file.empty() && message.find(file) != std::string::npos) return std::current_exception();
    }
    return std::make_exception_ptr(DataError(where + ": " + message));
  } catch (const Error&) {
    return std::current_exception();
  } catch (const c10::Error& e) {
    return std::make_exception_ptr(DataError(where + ": " + e.what_without_backtrace()));
  } catch (const std::exception& e) {
    return std::make_exception_ptr(DataError(where + ": " + e.what()));
  } catch (...) {
    return std::current_exception();
  }
}

size_t loaded_part(const DataLoaderParams& params, size_t samples, int world_size) {
  if (!params.num_batch_per_epoch) return samples;
  const auto wanted = static_cast<size_t>(*params.num_batch_per_epoch * params.batch_size) *
                      static_cast<size_t>(world_size);
  return std::min(samples, wanted);
}

}  // namespace

class DataLoader::Impl {
 public:
  Impl(const DataLoaderParams& params, std::shared_ptr<const Dataset> dataset,
       const LoaderPlace& place)
      : params_(params), dataset_(std::move(dataset)), place_(place) {
    // Workers are the parallelism; OpenCV's own threads would multiply them.
    static std::once_flag once;
    std::call_once(once, [] { cv::setNumThreads(0); });
    samples_ = loaded_part(params_, dataset_->size(), place.world_size);
    if (samples_ == 0) throw DataError("the data set has no samples");
    set_seed(place.seed);
    batch_ = static_cast<size_t>(params_.batch_size);
    a_pass_ = sampler_->size();
    if (!place.training && !sampler_->endless()) {
      while (a_pass_ > 0 && sampler_->at(a_pass_ - 1).padding) --a_pass_;
    }
    const bool whole_only = params_.drop_last && !sampler_->endless();
    batches_ = whole_only ? a_pass_ / batch_ : (a_pass_ + batch_ - 1) / batch_;
    if (batches_ == 0 && (place.training || whole_only)) {
      throw DataError(text("not one batch of ", batch_, " can be made of ", a_pass_,
                           a_pass_ == 1 ? " sample" : " samples", " a process",
                           whole_only ? ": drop_last leaves them out" : ""));
    }
    lists_labels_ = place.training && at::globalContext().hasCUDA();
    pin_ = params_.pin_memory.value_or(true) && at::globalContext().hasCUDA();
    limit_ = static_cast<size_t>(std::max<int64_t>(params_.num_workers, 1) *
                                 params_.prefetch_factor.value_or(2));
  }

  ~Impl() { end_workers(); }

  void set_seed(uint64_t seed) {
    place_.seed = seed;
    const Spec<Sampler> spec =
        params_.sampler
            ? *params_.sampler
            : Spec<Sampler>::of(place_.training ? "{type: DefaultSampler, shuffle: true}"
                                                : "{type: DefaultSampler, shuffle: false}");
    sampler_ = spec.build(samples_, seed, place_.rank, place_.world_size);
  }

  void start(uint64_t first, uint64_t end) {
    {
      const std::lock_guard lock(mutex_);
      slots_.clear();
      next_batch_ = first;
      end_batch_ = batches_ == 0 ? first : end;
      loading_ = true;
    }
    work_.notify_all();
    for (auto n = static_cast<int64_t>(workers_.size()); n < params_.num_workers; ++n) {
      workers_.emplace_back([this] { work(); });
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      slots_.clear();
      loading_ = false;
    }
    if (!params_.persistent_workers) end_workers();
  }

  std::optional<Batch> next() {
    if (params_.num_workers == 0) return next_here();
    std::shared_ptr<BatchSlot> slot;
    {
      std::unique_lock lock(mutex_);
      if (!loading_) return std::nullopt;
      if (slots_.empty() && !open_slot()) {
        loading_ = false;
        return std::nullopt;
      }
      slot = slots_.front();
      // A batch that was just opened here has nobody at work on it yet.
      if (slot->taken == 0) work_.notify_all();
      done_.wait(lock, [&] { return slot->missing == 0; });
      slots_.pop_front();
      if (slot->error) {
        slots_.clear();
        loading_ = false;
      }
    }
    work_.notify_all();
    return assemble(*slot);
  }

  int64_t smallest_batch() const {
    const bool whole_only = sampler_->endless() || params_.drop_last;
    const size_t rest = whole_only ? 0 : a_pass_ % batch_;
    return static_cast<int64_t>(rest == 0 ? batch_ : rest);
  }

  const DataLoaderParams params_;
  const std::shared_ptr<const Dataset> dataset_;
  uint64_t batches_ = 0;

 private:
  /// The draws of the next batch, in a new slot at the end; false where there are no more. Under
  /// the lock, as the sampler is not for several threads.
  bool open_slot() {
    if (next_batch_ >= end_batch_) return false;
    const uint64_t batch = next_batch_++;
    auto slot = std::make_shared<BatchSlot>();
    if (sampler_->endless()) {
      for (size_t i = 0; i < batch_; ++i) {
        const Draw draw = sampler_->at(batch * batch_ + i);
        if (place_.training || draw.epoch == batch / batches_) slot->draws.push_back(draw);
      }
    } else {
      const uint64_t epoch = batch / batches_, begin = batch % batches_ * batch_;
      const uint64_t count = std::min<uint64_t>(batch_, a_pass_ - begin);
      for (uint64_t i = 0; i < count; ++i) {
        slot->draws.push_back(sampler_->at(epoch * sampler_->size() + begin + i));
      }
    }
    slot->loaded.resize(slot->draws.size());
    slot->missing = slot->draws.size();
    slots_.push_back(std::move(slot));
    return true;
  }

  std::vector<PackedSample> load(const Draw& draw) const {
    auto samples = dataset_->get(draw.index, place_.seed, draw.epoch,
                                 place_.training ? Unusable::kReplaced : Unusable::kLeftOut);
    if (lists_labels_) {
      for (auto& sample : samples) {
        if (sample.labels.defined()) sample.label_values = label_values(sample.labels);
      }
    }
    if (pin_) {
      for (auto& sample : samples) {
        sample.image = sample.image.pin_memory();
        for (at::Tensor* map : {&sample.labels, &sample.edges, &sample.depth}) {
          if (map->defined()) *map = map->pin_memory();
        }
      }
    }
    return samples;
  }

  std::optional<Batch> next_here() {
    if (!loading_ || !open_slot()) {
      loading_ = false;
      return std::nullopt;
    }
    BatchSlot slot = std::move(*slots_.front());
    slots_.clear();
    for (size_t i = 0; i < slot.draws.size(); ++i) {
      try {
        slot.loaded[i] = load(slot.draws[i]);
      } catch (...) {
        loading_ = false;
        std::rethrow_exception(loader_error(*dataset_, slot.draws[i].index));
      }
    }
    return assemble(slot);
  }

  static Batch assemble(BatchSlot& slot) {
    if (slot.error) std::rethrow_exception(slot.error);
    Batch batch;
    for (auto& samples : slot.loaded) {
      for (auto& sample : samples) batch.samples.push_back(std::move(sample));
    }
    return batch;
  }

  /// The first slot with a draw that no worker has taken, or nullptr.
  std::shared_ptr<BatchSlot> slot_with_work() {
    for (const auto& slot : slots_) {
      if (slot->taken < slot->draws.size()) return slot;
    }
    if (loading_ && slots_.size() < limit_ && open_slot()) return slots_.back();
    return nullptr;
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      std::shared_ptr<BatchSlot> slot;
      work_.wait(lock, [&] {
        if (ending_) return true;
        slot = slot_with_work();
        return slot != nullptr;
      });
      if (ending_) return;
      const size_t i = slot->taken++;
      if (i >= slot->draws.size()) continue;  // a batch of nothing
      const Draw draw = slot->draws[i];
      lock.unlock();
      std::vector<PackedSample> samples;
      std::exception_ptr error;
      try {
        samples = load(draw);
      } catch (...) {
        error = loader_error(*dataset_, draw.index);
      }
      lock.lock();
      // The slot may have been dropped meanwhile; then nobody looks at it any more.
      slot->loaded[i] = std::move(samples);
      if (error && i < slot->error_at) {
        slot->error = error;
        slot->error_at = i;
      }
      if (--slot->missing == 0) done_.notify_all();
    }
  }

  void end_workers() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      slots_.clear();
    }
    work_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
    ending_ = false;
  }

  LoaderPlace place_;
  size_t samples_ = 0;  ///< of all ranks in one pass
  std::unique_ptr<Sampler> sampler_;
  size_t batch_ = 1, limit_ = 2;
  uint64_t a_pass_ = 0;
  bool pin_ = false;
  bool lists_labels_ = false;  ///< for losses on a GPU

  std::mutex mutex_;
  std::condition_variable work_;  ///< there may be something to load, or the end has come
  std::condition_variable done_;  ///< a batch is complete
  std::deque<std::shared_ptr<BatchSlot>> slots_;
  uint64_t next_batch_ = 0, end_batch_ = 0;
  bool loading_ = false, ending_ = false;
  std::vector<std::thread> workers_;
};

DataLoader::DataLoader(const DataLoaderParams& params, std::shared_ptr<const Dataset> dataset,
                       const LoaderPlace& place)
    : impl_(std::make_unique<Impl>(params, std::move(dataset), place)) {}

DataLoader::DataLoader(const DataLoaderParams& params, const LoaderPlace& place)
    : DataLoader(params, std::shared_ptr<const Dataset>(params.dataset.build()), place) {}

DataLoader::~DataLoader() = default;

const Dataset& DataLoader::dataset() const { return *impl_->dataset_; }
std::shared_ptr<const Dataset> DataLoader::shared_dataset() const { return impl_->dataset_; }
int64_t DataLoader::batch_size() const { return impl_->params_.batch_size; }
int64_t DataLoader::smallest_batch() const { return impl_->smallest_batch(); }
uint64_t DataLoader::batches_per_epoch() const { return impl_->batches_; }
void DataLoader::start(uint64_t first, uint64_t end) { impl_->start(first, end); }
void DataLoader::set_seed(uint64_t seed) { impl_->set_seed(seed); }
std::optional<Batch> DataLoader::next() { return impl_->next(); }
void DataLoader::stop() { impl_->stop(); }

}  // namespace seg
