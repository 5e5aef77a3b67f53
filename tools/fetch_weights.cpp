/// Downloads the published weights that a configuration names.
#include <curl/curl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <optional>
#include <set>

#include "registry/yaml.hpp"
#include "runners/start/old_config.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/model_zoo.hpp"
#include "segcore/io/sha256.hpp"
#include "segcore/models/smp/segmentation_model.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

namespace fs = std::filesystem;

/// A value of a configuration (or a word of the command line) that says where weights are.
struct WantedWeights {
  std::string location, where;
};

/// Keys under which configurations name files of weights, and what belongs to them.
bool names_weights(const std::string& key) {
  return key == "load_from" || key == "checkpoint" || key == "pretrained" ||
         key == "vocabulary_file" || key == "class_embed_path";
}

/// An encoder of segmentation_models_pytorch: a model names its weights or takes the default ones;
/// as a backbone (SmpEncoder) it has those that are named.
std::optional<WantedWeights> weights_of_encoder(const seg::Config& model) {
  const seg::Config::Item* type = model.find("type");
  const bool backbone = type && type->value.scalar == "SmpEncoder";
  const seg::Config::Item* encoder = model.find(backbone ? "name" : "encoder_name");
  const seg::Config::Item* weights = model.find(backbone ? "weights" : "encoder_weights");
  seg::EncoderOptions options{.weights = seg::smp::ModelParams{}.encoder_weights};
  if (weights ? weights->value.is_null() : backbone) return std::nullopt;
  if (weights) options.weights = weights->value.scalar;
  // What is misspelt is told by the programs that build the model.
  if (!encoder || !seg::EncoderTable::instance().find(encoder->value.scalar)) {
    return std::nullopt;
  }
  const std::string where = (weights ? weights : encoder)->value.origin.text();
  try {
    const auto built = seg::build_plain_encoder(encoder->value.scalar, options);
    const auto rules = built->pretrained_rules();
    return WantedWeights{rules.back().config().find("checkpoint")->value.scalar, where};
  } catch (const seg::OptionError& error) {
    throw seg::DataError(where + ": " + error.what());
  }
}

void collect_weights(const seg::Config& config, std::vector<WantedWeights>& out) {
  if (auto wanted = weights_of_encoder(config)) out.push_back(std::move(*wanted));
  for (const auto& item : config.map) {
    if (names_weights(item.key) && item.value.kind == seg::Config::Kind::kString) {
      out.push_back({item.value.scalar, item.value.origin.text()});
    }
    collect_weights(item.value, out);
  }
  for (const auto& element : config.list) collect_weights(element, out);
}

std::string size_text(double bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1);
  if (bytes < 1e6) {
    out << bytes / 1e3 << " kB";
  } else {
    out << bytes / 1e6 << " MB";
  }
  return out.str();
}

/// One download: its bytes go to the file and the digest; the line of progress to a terminal.
class Download {
 public:
  Download(const seg::ZooFile& wanted, seg::AtomicFile& file) : wanted_(wanted), file_(file) {}

  /// \throws seg::DataError in one sentence
  void run() {
    const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> handle(curl_easy_init(),
                                                                     &curl_easy_cleanup);
    if (!handle) throw seg::DataError("libcurl cannot be started");
    CURL* curl = handle.get();
    const auto set = [&](CURLoption option, auto value) {
      if (curl_easy_setopt(curl, option, value) != CURLE_OK) {
        throw seg::DataError(seg::text(wanted_.url, ": libcurl ", LIBCURL_VERSION,
                                       " does not know an option (", int{option}, ")"));
      }
    };
    set(CURLOPT_URL, wanted_.url.c_str());
    set(CURLOPT_USERAGENT, "segcore/" SEG_VERSION);
    // Nothing but the web, wherever a server sends us; and never from https down to http.
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, wanted_.url.starts_with("https") ? "https" : "http,https");
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_MAXREDIRS, 10L);
    set(CURLOPT_FAILONERROR, 1L);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_CONNECTTIMEOUT, 30L);
    // A transfer may take hours, but not stand still: below 100 bytes a second for a minute.
    set(CURLOPT_LOW_SPEED_LIMIT, 100L);
    set(CURLOPT_LOW_SPEED_TIME, 60L);
    // The command curl reads it too; libcurl alone does not.
    if (const char* bundle = std::getenv("CURL_CA_BUNDLE")) set(CURLOPT_CAINFO, bundle);
    set(CURLOPT_WRITEFUNCTION, &Download::receive);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, &Download::progress);
    set(CURLOPT_XFERINFODATA, this);
    set(CURLOPT_ERRORBUFFER, reason_);
    const CURLcode result = curl_easy_perform(curl);
    if (on_terminal_) std::cerr << "\r\033[K" << std::flush;
    if (failure_) std::rethrow_exception(failure_);
    if (result != CURLE_OK) throw seg::DataError(wanted_.url + ": " + problem(curl, result));
  }
  std::string digest() { return digest_.finish(); }

 private:
  static size_t receive(char* data, size_t size, size_t count, void* self) {
    auto& download = *static_cast<Download*>(self);
    try {
      download.file_.write(data, size * count);
    } catch (...) {  // carried over libcurl's C code
      download.failure_ = std::current_exception();
      return 0;
    }
    download.digest_.update(data, size * count);
    return size * count;
  }

  static int progress(void* self, curl_off_t total, curl_off_t now, curl_off_t, curl_off_t) {
    auto& download = *static_cast<Download*>(self);
    if (!download.on_terminal_ || now == 0) return 0;
    const auto time = std::chrono::steady_clock::now();
    if (now != total && time - download.shown_ < std::chrono::milliseconds(200)) return 0;
    download.shown_ = time;
    std::cerr << '\r' << fs::path(download.wanted_.path).filename().string() << "  "
              << size_text(static_cast<double>(now));
    if (total > 0) {
      std::cerr << " of " << size_text(static_cast<double>(total)) << " (" << 100 * now / total
                << "%)";
    }
    const double seconds = std::chrono::duration<double>(time - download.begun_).count();
    if (seconds > 0.5) {
      std::cerr << ", " << size_text(static_cast<double>(now) / seconds) << "/s";
    }
    std::cerr << "\033[K" << std::flush;
    return 0;
  }

  /// What went wrong, for people.
  std::string problem(CURL* curl, CURLcode result) const {
    const std::string reason = *reason_ ? reason_ : curl_easy_strerror(result);
    switch (result) {
      case CURLE_HTTP_RETURNED_ERROR: {
        long status = 0;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        const std::string code = seg::text(" (HTTP ", status, ")");
        if (status == 404 || status == 410) return "the server has no such file" + code;
        if (status == 401 || status == 403) return "the server does not give the file out" + code;
        if (status == 429) return "the server wants fewer requests; try again later" + code;
        if (status >= 500) return "the server has a problem; try again later" + code;
        return "the server refused" + code;
      }
      case CURLE_COULDNT_RESOLVE_HOST:
        return "the host is not known; is there a network?";
      case CURLE_COULDNT_RESOLVE_PROXY:
        return "the proxy of the environment (https_proxy) is not known";
      case CURLE_COULDNT_CONNECT:
        return "no connection: " + reason;
      case CURLE_OPERATION_TIMEDOUT:
        return "the server stopped answering; try again later";
      case CURLE_PARTIAL_FILE:
      case CURLE_RECV_ERROR:
      case CURLE_GOT_NOTHING:
        return "the connection was cut before the end of the file; try again";
      case CURLE_TOO_MANY_REDIRECTS:
        return "the server sends from address to address without end";
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_CACERT_BADFILE:
        return "the server's certificate cannot be trusted: " + reason +
               " (certificates of your own: CURL_CA_BUNDLE=FILE)";
      default:
        return reason;
    }
  }

  const seg::ZooFile& wanted_;
  seg::AtomicFile& file_;
  seg::Sha256 digest_;
  std::exception_ptr failure_;
  char reason_[CURL_ERROR_SIZE] = "";
  const bool on_terminal_ = isatty(STDERR_FILENO) != 0;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now(), shown_;
};

std::string wrong_digest(const std::string& what, const std::string& found,
                         const std::string& expected) {
  return seg::text(what, ": its SHA-256 is ", found, ", expected ",
                   expected.size() < 64 ? "one that begins with " : "", expected);
}

/// Makes sure that the file is there and is the one meant.
/// \return what was done, for the person.
/// \throws seg::DataError
std::string fetch(const seg::ZooFile& file, const std::string& digest) {
  if (fs::exists(file.path)) {
    const std::string found = digest.empty() ? "" : seg::sha256_of_file(file.path);
    if (!found.starts_with(digest)) {
      throw seg::DataError(wrong_digest(file.path, found, digest) +
                           "; remove it to have it downloaded");
    }
    return "is there: " + file.path;
  }
  fs::create_directories(fs::path(file.path).parent_path());
  seg::AtomicFile out(file.path);
  Download download(file, out);
  download.run();
  const std::string found = download.digest();
  if (!found.starts_with(digest)) {
    throw seg::DataError(wrong_digest(file.url, found, digest) + "; it was not kept");
  }
  const std::string size = size_text(static_cast<double>(out.position()));
  out.commit();
  return seg::text("downloaded ", size, ": ", file.path,
                   digest.empty() ? "\n  sha256 " + found + " (no digest to check it by)" : "");
}

struct FetchArguments {
  std::vector<std::string> sources, overrides;
  std::string sha256;
  bool dry_run = false;
};

std::vector<WantedWeights> wanted_weights(const FetchArguments& arguments) {
  std::vector<WantedWeights> out;
  for (const std::string& source : arguments.sources) {
    if (source.find("://") != source.npos) {
      out.push_back({source, ""});
      continue;
    }
    const size_t before = out.size();
    collect_weights(seg::load_any_config(source, arguments.overrides), out);
    if (out.size() == before) std::cout << source << ": names no weights" << std::endl;
  }
  std::set<std::string> seen;
  std::erase_if(out, [&](const auto& wanted) { return !seen.insert(wanted.location).second; });
  return out;
}

int fetch_weights(FetchArguments& arguments) {
  std::string& digest = arguments.sha256;
  std::transform(digest.begin(), digest.end(), digest.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (!digest.empty() && (digest.size() < 8 || digest.size() > 64 ||
                          digest.find_first_not_of("0123456789abcdef") != digest.npos)) {
    throw seg::UsageError(
        seg::text("--sha256: expected 8 to 64 hexadecimal digits, got '", digest, "'"));
  }
  const std::vector<WantedWeights> wanted = wanted_weights(arguments);
  const auto is_remote = [](const auto& w) { return w.location.find("://") != std::string::npos; };
  if (!digest.empty() && std::count_if(wanted.begin(), wanted.end(), is_remote) != 1) {
    throw seg::UsageError("--sha256 is of one file, but " +
                          seg::text(std::count_if(wanted.begin(), wanted.end(), is_remote)) +
                          " are wanted");
  }
  int failed = 0;
  for (const auto& [location, where] : wanted) {
    const std::string place = where.empty() ? "" : where + ": ";
    try {
      const std::optional<seg::ZooFile> file = seg::zoo_file(location);
      if (!file) {
        if (fs::exists(location)) continue;
        throw seg::DataError(location + ": there is no such file, and it is no address");
      }
      if (arguments.dry_run) {
        std::cout << location << ": " << file->url << " -> " << file->path
                  << (fs::exists(file->path) ? " (is there)" : "") << std::endl;
        continue;
      }
      const std::string done = fetch(*file, digest.empty() ? file->sha256_prefix : digest);
      std::cout << location << ' ' << done << std::endl;
    } catch (const seg::DataError& error) {
      std::cerr << place << "error: " << error.what() << std::endl;
      ++failed;
    } catch (const seg::CheckpointError& error) {
      std::cerr << place << "error: " << error.what() << std::endl;
      ++failed;
    }
  }
  return failed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Downloads the published weights that configurations name (load_from, checkpoint, "
      "pretrained, encoder_weights) to $SEGCORE_HOME/checkpoints, else "
      "~/.cache/segcore/checkpoints, where runs "
      "look for them. What is there already is only checked.",
      [](CLI::App& app) {
        seg::add_help(app, {.example = "tools/fetch_weights open-mmlab://resnet50_v1c --dry-run",
                            .exit_codes = {}});
        auto arguments = std::make_shared<FetchArguments>();
        app.add_option("config", arguments->sources,
                       "configuration files, or addresses: open-mmlab://resnet50_v1c")
            ->required();
        app.add_option("--sha256", arguments->sha256,
                       "digest that the file must have, or its first digits (default: the one in "
                       "the file's name, as in resnet50_v1c-2cccc1ad.pth)")
            ->type_name("HEX");
        app.add_flag("--dry-run", arguments->dry_run, "print what is wanted; download nothing");
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments] { return fetch_weights(*arguments); };
      });
}
