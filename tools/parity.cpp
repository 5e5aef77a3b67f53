/// Runs all fixtures of a folder and writes what became of them as a table.
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "registry/error.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/testing/parity.hpp"
#include "segcore/torch.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

using seg::reference::FixtureResult;

/// The fixtures of the source tree that the program lies in, or of the folder it is called from.
std::string own_fixtures() {
  namespace fs = std::filesystem;
  const fs::path fixtures = "tests/data/reference";
  std::error_code ignored;
  if (fs::exists(fixtures, ignored)) return fixtures.string();
  for (fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
       folder.has_relative_path(); folder = folder.parent_path()) {
    if (fs::exists(folder / fixtures, ignored)) return (folder / fixtures).string();
  }
  return fixtures.string();
}

struct ParityArguments {
  std::string folder = own_fixtures(), filter, out;
  size_t jobs = 1;
};

/// A process that runs one fixture: its memory goes with it, and a crash is one line of the table.
struct ParityJob {
  size_t index = 0;
  pid_t process = 0;
  int pipe = -1;
  std::string written;
};

void write_all(int file, const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(file, text.data() + done, text.size() - done);
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
}

/// LibTorch has started no thread in the parent, so that the child may use all of it.
ParityJob start(size_t index, const std::string& folder, const std::string& file) {
  int ends[2];
  if (::pipe(ends) != 0) throw seg::DataError(seg::text("no pipe: ", std::strerror(errno)));
  std::cout.flush();
  const pid_t process = ::fork();
  if (process < 0) throw seg::DataError(seg::text("no process: ", std::strerror(errno)));
  if (process == 0) {
    ::close(ends[0]);
    at::set_num_threads(1);
    const FixtureResult r = seg::reference::run_fixture(folder, file);
    const nlohmann::json message = {
        {"kind", r.kind}, {"why", r.why}, {"logits", r.logits}, {"gradients", r.gradients}};
    write_all(ends[1], message.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    ::_exit(0);
  }
  ::close(ends[1]);
  return {index, process, ends[0], {}};
}

FixtureResult finish(const ParityJob& job, const std::string& name) {
  ::close(job.pipe);
  int status = 0;
  ::waitpid(job.process, &status, 0);
  FixtureResult result{.name = name, .kind = FixtureResult::Kind::kFails, .why = {}};
  const auto message = nlohmann::json::parse(job.written, nullptr, /*allow_exceptions=*/false);
  if (message.is_discarded()) {
    result.why = WIFSIGNALED(status) ? seg::text("ended by signal ", WTERMSIG(status))
                                     : std::string("ended without a result");
    return result;
  }
  result.kind = message.at("kind");
  result.why = message.at("why");
  result.logits = message.at("logits");
  result.gradients = message.at("gradients");
  return result;
}

std::vector<FixtureResult> run_all(const ParityArguments& arguments,
                                   const std::vector<std::string>& files) {
  std::vector<FixtureResult> results(files.size());
  std::vector<ParityJob> running;
  size_t next = 0;
  while (next < files.size() || !running.empty()) {
    while (next < files.size() && running.size() < arguments.jobs) {
      running.push_back(start(next, arguments.folder, files[next]));
      ++next;
    }
    std::vector<pollfd> waited;
    for (const auto& job : running) waited.push_back({job.pipe, POLLIN, 0});
    if (::poll(waited.data(), waited.size(), -1) < 0) continue;
    for (size_t i = running.size(); i-- > 0;) {
      if (waited[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t n = ::read(running[i].pipe, buffer, sizeof(buffer));
      if (n > 0) {
        running[i].written.append(buffer, static_cast<size_t>(n));
        continue;
      }
      const auto& file = files[running[i].index];
      const auto name =
          std::filesystem::relative(file, arguments.folder).replace_extension().string();
      auto& result = results[running[i].index] = finish(running[i], name);
      std::cout << (result.kind == FixtureResult::Kind::kHolds   ? "holds              "
                    : result.kind == FixtureResult::Kind::kFails ? "FAILS              "
                                                                 : "not supported yet  ")
                << name << (result.why.empty() ? "" : "  ") << result.why << std::endl;
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return results;
}

int parity(const ParityArguments& arguments) {
  const auto files = seg::reference::fixtures_below(arguments.folder, arguments.filter);
  if (files.empty()) {
    throw seg::DataError(seg::text(
        "there is no fixture below ", arguments.folder,
        arguments.filter.empty() ? std::string() : " whose path holds '" + arguments.filter + "'"));
  }
  const auto results = run_all(arguments, files);
  std::cout << seg::reference::totals(results) << std::endl;
  if (!arguments.out.empty()) {
    seg::write_file_atomically(arguments.out, seg::reference::parity_report(results));
  }
  for (const auto& result : results) {
    if (result.kind == FixtureResult::Kind::kFails) return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Compares all models of a folder of fixtures with the numbers that their Python originals "
      "gave. Exit code 0 if none fails, else 1.",
      [](CLI::App& app) {
        seg::add_help(app,
                      {.example = "tools/parity tests/data/reference --jobs 2", .exit_codes = {}});
        auto arguments = std::make_shared<ParityArguments>();
        app.add_option("folder", arguments->folder, "folder of fixtures")->capture_default_str();
        app.add_option("--filter", arguments->filter,
                       "only fixtures whose path below the folder holds this text");
        app.add_option("--jobs", arguments->jobs,
                       "fixtures at a time, each in a process of its own")
            ->capture_default_str()
            ->check(CLI::Range(1, 1024));
        app.add_option("--out", arguments->out, "write the table as Markdown: docs/parity.md");
        return [arguments] { return parity(*arguments); };
      });
}
