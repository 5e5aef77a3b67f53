#include "runners/dist/peer_watch.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "registry/log.hpp"
#include "runners/dist/communication_errors.hpp"
#include "runners/dist/process_group.hpp"

namespace seg {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kBeat = 1s;
/// Two heartbeats of a living process are further apart only where its machine hardly runs.
constexpr auto kTwoBeats = 4s;
/// What a process that knows of a lost peer has to come out of a collective by itself.
constexpr auto kGrace = 5s;
/// What find_lost waits for.
constexpr auto kSearch = 15s;

struct Beat {
  int64_t count = 0;
  LostPeer seen;       ///< where the process is; `what` is why it has ended
  double ended = 0;    ///< seconds since 1970; 0: it has not
  bool knows = false;  ///< of a lost peer
};

using Bytes = std::vector<uint8_t>;
Bytes bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

using Json = nlohmann::ordered_json;

Bytes bytes_of(const Json& json) {
  return bytes_of(json.dump(-1, ' ', false, Json::error_handler_t::replace));
}
LostPeer to_lost(const Bytes& bytes) {
  return lost_peer_of(Json::parse(bytes.begin(), bytes.end()));
}

Beat to_beat(const Bytes& bytes) {
  const auto json = Json::parse(bytes.begin(), bytes.end());
  return {.count = json.at("count"),
          .seen = lost_peer_of(json.at("seen")),
          .ended = json.at("ended"),
          .knows = json.at("knows")};
}

}  // namespace

class PeerWatch::Impl {
 public:
  Impl(const Rendezvous& place, const std::string& prefix)
      : rank_(place.rank),
        size_(place.size),
        patience_(place.heartbeat_timeout_s),
        prefix_(prefix),
        watched_((place.rank + 1) % place.size),
        store_host_(place.store_of_launcher ? -1 : 0) {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(place.port);
    options.waitWorkers = false;
    options.timeout = patience_;
    store_ = c10::make_intrusive<c10d::TCPStore>(place.host, options);
    if (rank_ == 0) store_->set(lost_key(), {});
    write_beat();
  }

  void exchange() {
    watched_since_ = Clock::now();
    std::unique_lock lock(mutex_);
    last_round_ = Clock::now();
    while (!over_) {
      lock.unlock();
      try {
        round();
      } catch (const std::exception& e) {
        store_failed(e.what());
        return;
      }
      lock.lock();
      changed_.wait_for(lock, kBeat,
                        [&] { return over_ || (searched_ && ended_.empty() && !lost_); });
    }
  }

  /// Ends the process where its main thread cannot.
  void guard() {
    std::unique_lock lock(mutex_);
    while (!over_) {
      changed_.wait_for(lock, 250ms, [&] { return over_; });
      if (over_) return;
      const auto now = Clock::now();
      if (!lost_ && now - last_round_ > patience_) {
        accept(silent_store(text("has not answered for ", patience_.count(), " s")));
      }
      if (lost_ && now - lost_at_ > kGrace && (!searched_ || now - searched_at_ > 2 * kGrace)) {
        const LostPeer lost = *lost_;
        lock.unlock();
        die(lost);
      }
    }
  }

  LostPeer find_lost() {
    std::unique_lock lock(mutex_);
    searched_ = true;
    searched_at_ = Clock::now() + kSearch;
    changed_.notify_all();
    changed_.wait_for(lock, kSearch, [&] { return lost_.has_value(); });
    searched_at_ = Clock::now();
    if (lost_) return *lost_;
    return {.what = "another process of the run, it is not known which, was lost"};
  }

  void announce_end(const std::string& why) {
    bool first = false;
    {
      const std::scoped_lock lock(mutex_);
      ended_ = why;
      ended_at_ = seconds_since_1970();
      searched_ = true;  // the main thread is on its way out
      searched_at_ = Clock::now();
      first = !lost_;
    }
    changed_.notify_all();
    leave_word(first);
  }

  void stop() {
    const std::scoped_lock lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }

  std::vector<int> absent() {
    std::vector<int> out;
    for (int rank = 0; rank < size_; ++rank) {
      if (!store_->check({key("alive", rank)})) out.push_back(rank);
    }
    return out;
  }

 private:
  std::string key(const char* what, int rank) const { return text(prefix_, what, '/', rank); }
  std::string lost_key() const { return prefix_ + "lost"; }

  /// Before this process ends: writes its last heartbeat, and keeps the store, if it has it, until
  /// the others have read what they need.
  /// \param mine  the others are to name this process.
  void leave_word(bool mine) {
    {
      // A silent store would hold this thread, too.
      const std::scoped_lock lock(mutex_);
      if (Clock::now() - last_round_ > kTwoBeats) return;
    }
    try {
      const Beat last = write_beat();
      if (mine) name_lost(last.seen);
      if (rank_ == store_host_) wait_for_readers();
    } catch (const std::exception& e) {
      log::debug("the store of the run failed: ", e.what());
    }
  }

  void wait_for_readers() {
    const auto began = Clock::now();
    const auto first = all_beats();
    for (auto now = began; now - began < kGrace; now = Clock::now()) {
      const auto beats = all_beats();
      const bool all_know = std::all_of(beats.begin(), beats.end(), [&](const Beat& beat) {
        const auto rank = static_cast<size_t>(beat.seen.rank);
        const bool gone = now - began > 3 * kBeat && beat.count == first[rank].count;
        return beat.seen.rank == rank_ || beat.knows || beat.ended > 0 || gone;
      });
      if (all_know) return;
      std::this_thread::sleep_for(100ms);
    }
  }

  Beat write_beat() {
    const FlightState at = flight_recorder().state();
    Json beat;
    {
      const std::scoped_lock lock(mutex_);
      beat = {{"count", ++beats_}, {"ended", ended_at_}, {"knows", lost_.has_value()}};
      beat["seen"] = to_json_value({.rank = rank_,
                                    .host = host_name(),
                                    .pid = getpid(),
                                    .what = ended_,
                                    .iter = at.iter,
                                    .stage = at.stage,
                                    .collective = at.collective,
                                    .collective_number = at.collective_number});
    }
    const Bytes shown = bytes_of(beat);
    store_->set(key("alive", rank_), shown);
    return to_beat(shown);
  }

  void round() {
    write_beat();
    std::vector<std::string> keys{lost_key(), key("alive", watched_)};
    if (store_host_ >= 0) keys.push_back(key("alive", store_host_));
    const auto answers = ask(keys);
    if (!answers[0].empty()) {
      const std::scoped_lock lock(mutex_);
      accept(to_lost(answers[0]));
      return;
    }
    look_at(to_beat(answers[1]));
    bool search = false;
    {
      const std::scoped_lock lock(mutex_);
      // Whoever runs the store cannot be asked where it was once it is gone.
      if (store_host_ >= 0) store_peer_ = to_beat(answers[2]).seen;
      search = searched_ && ended_.empty() && !lost_;
    }
    if (search) name_lost(search_all());
  }

  /// Names the watched rank if it is silent, or has ended by an error while this one goes on.
  void look_at(const Beat& beat) {
    const auto now = Clock::now();
    if (beat.count != watched_count_) {
      watched_count_ = beat.count;
      watched_since_ = now;
    }
    const bool ended = beat.ended > 0;
    if (ended && !watched_ended_) watched_ended_ = now;
    if (ended && now - *watched_ended_ > 4 * kGrace) {
      name_lost(beat.seen);
    } else if (!ended && now - watched_since_ > patience_) {
      LostPeer silent = beat.seen;
      silent.what =
          fate_of(silent.rank).value_or(text("has been silent for ", patience_.count(), " s"));
      name_lost(silent);
    }
  }

  /// How the launcher saw a process end.
  std::optional<std::string> fate_of(int rank) {
    const std::string ended = text("segcore/ended/", rank);
    if (!store_->check({ended})) return std::nullopt;
    const auto bytes = store_->get(ended);
    const std::string how(bytes.begin(), bytes.end());
    return how.starts_with("killed") ? "was " + how : how;
  }

  std::vector<Beat> all_beats() {
    std::vector<std::string> keys;
    for (int rank = 0; rank < size_; ++rank) keys.push_back(key("alive", rank));
    std::vector<Beat> out;
    for (const auto& bytes : ask(keys)) out.push_back(to_beat(bytes));
    return out;
  }

  std::vector<Bytes> ask(const std::vector<std::string>& keys) {
    auto out = store_->multiGet(keys);
    const std::scoped_lock lock(mutex_);
    last_round_ = Clock::now();
    return out;
  }

  /// An exchange of this process has failed: whose fault is it?
  std::optional<LostPeer> search_all() {
    const auto before = all_beats();
    auto after = before;
    for (auto waited = 0ms; waited < kTwoBeats; waited += kBeat) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, kBeat, [&] { return over_; });
        if (over_) return std::nullopt;
      }
      write_beat();  // else this one would be missed meanwhile
      after = all_beats();
    }
    const Beat* first_to_end = nullptr;
    const Beat* behind = nullptr;
    for (size_t rank = 0; rank < after.size(); ++rank) {
      const Beat& beat = after[rank];
      if (static_cast<int>(rank) == rank_) continue;
      if (beat.ended == 0 && beat.count == before[rank].count) {
        LostPeer dead = beat.seen;
        dead.what = fate_of(dead.rank).value_or("is gone");
        return dead;
      }
      if (beat.ended > 0 && (!first_to_end || beat.ended < first_to_end->ended)) {
        first_to_end = &beat;
      }
      if (!behind || beat.seen.collective_number < behind->seen.collective_number) behind = &beat;
    }
    if (first_to_end) return first_to_end->seen;
    const int64_t mine = flight_recorder().state().collective_number;
    if (behind && behind->seen.collective_number < mine) {
      LostPeer late = behind->seen;
      late.what = "did not come to the exchange that all others waited in";
      return late;
    }
    return std::nullopt;
  }

  void name_lost(std::optional<LostPeer> found) {
    if (!found) return;
    const auto first = store_->compareSet(lost_key(), {}, bytes_of(to_json_value(*found)));
    const std::scoped_lock lock(mutex_);
    accept(to_lost(first));
  }

  void accept(LostPeer lost) {
    if (lost_) return;
    lost_ = std::move(lost);
    lost_at_ = Clock::now();
    changed_.notify_all();
  }

  LostPeer silent_store(const std::string& what) const {
    if (store_host_ < 0) return {.what = "the launcher's store " + what};
    LostPeer out = store_peer_;
    out.what = what;
    return out;
  }

  void store_failed(const std::string& why) {
    log::debug("the store of the run failed: ", why);
    const std::scoped_lock lock(mutex_);
    if (over_) return;
    accept(silent_store("is gone"));
  }

  /// The last resort: the main thread waits where nothing wakes it.
  [[noreturn]] void die(const LostPeer& lost) {
    // Whatever holds up the report, this process must end.
    std::thread([] {
      std::this_thread::sleep_for(2 * kGrace);
      _exit(kPeerLost);
    }).detach();
    const std::string message = lost_message(lost, rank_);
    flight_recorder().write(message, lost);
    std::fprintf(stderr, "error: %s\n", message.c_str());
    leave_word(/*mine=*/false);
    log::flush();
    std::fflush(nullptr);
    _exit(kPeerLost);
  }

 private:
  const int rank_, size_;
  const std::chrono::seconds patience_;
  const std::string prefix_;
  c10::intrusive_ptr<c10d::TCPStore> store_;

  // Of the thread that exchanges:
  int watched_;
  int64_t watched_count_ = -1;
  Clock::time_point watched_since_;
  std::optional<Clock::time_point> watched_ended_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  int64_t beats_ = 0;
  std::string ended_;
  double ended_at_ = 0;
  bool searched_ = false;  ///< the main thread knows that something is wrong
  Clock::time_point searched_at_, last_round_ = Clock::now(), lost_at_;
  std::optional<LostPeer> lost_;
  const int store_host_;  ///< -1: the launcher
  LostPeer store_peer_{.rank = 0, .what = ""};
};

PeerWatch::PeerWatch(const Rendezvous& place, const std::string& prefix)
    : impl_(std::make_shared<Impl>(place, prefix)) {}

PeerWatch::~PeerWatch() { impl_->stop(); }

std::vector<int> PeerWatch::absent() const { return impl_->absent(); }

void PeerWatch::start() {
  // They end by themselves after stop(); one that waits for a silent store must hold up nobody.
  std::thread([impl = impl_] { impl->exchange(); }).detach();
  std::thread([impl = impl_] { impl->guard(); }).detach();
}

LostPeer PeerWatch::find_lost() { return impl_->find_lost(); }

void PeerWatch::announce_end(const std::string& why) { impl_->announce_end(why); }

std::string lost_message(const LostPeer& lost, int rank) {
  if (lost.rank == rank) {
    return "the other processes of the run have given this one up: " + lost.text();
  }
  const FlightState at = flight_recorder().state();
  std::string out = "a process of the run was lost: " + lost.text();
  out += text(". Rank ", rank, " was in iteration ", at.iter);
  if (!at.collective.empty()) out += ", its last collective '" + at.collective + "'";
  return out + "; tools/why shows the records of all";
}

}  // namespace seg
