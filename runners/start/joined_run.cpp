#include "runners/start/joined_run.hpp"

#include <c10/util/Exception.h>

#include "registry/error.hpp"
#include "runners/log/flight_record.hpp"
#include "runners/start/signals.hpp"
#include "segcore/dist/communicator.hpp"

namespace seg {
namespace {

void end_badly(const RunInfo& run, const std::string& why) {
  flight_recorder().write(why);
  run.communicator->announce_end("ended: " + why);
}

}  // namespace

void run_joined(const RunInfo& run, const std::function<void()>& body) {
  Communicator& communicator = *run.communicator;
  flight_recorder().open({.path = text(run.log_dir, "/flight_", communicator.rank(), ".json"),
                          .rank = communicator.rank(),
                          .size = communicator.size(),
                          .device = run.device});
  try {
    body();
    communicator.barrier();
  } catch (const c10::Error& e) {
    end_badly(run, e.what_without_backtrace());
    throw;
  } catch (const RunEnded& e) {
    flight_recorder().write(e.what());
    // All were stopped, and nobody waits for this one.
    if (e.exit_code() != kStoppedBySignal) communicator.announce_end(text("ended: ", e.what()));
    throw;
  } catch (const std::exception& e) {
    end_badly(run, e.what());
    throw;
  }
  flight_recorder().close();
}

}  // namespace seg
