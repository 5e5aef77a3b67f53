/// Draws the recorded values of runs as curves.
#include <cctype>

#include "runners/visualization/run_curves.hpp"
#include "segcore/io/atomic_file.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

struct AnalyzeArguments {
  std::vector<std::string> runs, keys, legend;
  std::string out, csv, title, size;
  std::optional<double> smoothing;
  bool log_scale = false;
};

/// "1000x600" as width and height; none given: as high as the plots need.
seg::PlotSize picture_size(const std::string& words) {
  if (words.empty()) return {};
  int width = 0, height = 0;
  char rest = 0;
  if (std::sscanf(words.c_str(), "%dx%d%c", &width, &height, &rest) != 2 || width < 200 ||
      height < 150 || width > 20000 || height > 20000) {
    throw seg::UsageError("--size takes WIDTHxHEIGHT from 200x150 to 20000x20000, got '" + words +
                          "'");
  }
  return {.width = width, .height = height};
}

/// Curves can be written under this name.
CLI::Validator picture_file() {
  return {[](std::string& path) {
            std::string lower = path;
            for (char& c : lower)
              c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
            for (const char* suffix : {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".svg"}) {
              if (lower.ends_with(suffix)) return std::string();
            }
            return seg::text("ends in .png, .jpg, .tif or .svg, got '", path, "'");
          },
          ""};
}

int analyze_logs(AnalyzeArguments arguments) {
  const seg::PlotSize size = picture_size(arguments.size);
  std::vector<seg::RunLog> runs;
  for (const std::string& path : arguments.runs) runs.push_back(seg::read_run_log(path));
  seg::name_runs(runs);
  if (!arguments.legend.empty()) {
    if (arguments.legend.size() != runs.size()) {
      throw seg::UsageError(seg::text("--legend takes a name for each of the ", runs.size(),
                                      " runs, got ", arguments.legend.size()));
    }
    for (size_t i = 0; i < runs.size(); ++i) runs[i].name = arguments.legend[i];
  }
  if (arguments.keys.empty()) arguments.keys = seg::usual_keys(runs);
  seg::check_keys(runs, arguments.keys);
  if (!arguments.csv.empty()) {
    seg::write_file_atomically(arguments.csv, seg::curves_csv(runs, arguments.keys));
  }
  if (!arguments.out.empty()) {
    const seg::CurveOptions options{.smoothing = arguments.smoothing,
                                    .log_scale = arguments.log_scale};
    seg::write_plot(arguments.out, seg::curve_panels(runs, arguments.keys, options), size,
                    arguments.title);
  }
  std::cout << seg::curves_summary(runs, arguments.keys);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Draws values that runs recorded (losses, learning rates, metrics) as curves over the steps, "
      "one plot per key and one line per run, and prints their last, lowest and highest "
      "values. The launches of a resumed run are joined. Training itself draws loss and mIoU into "
      "<work dir>/curves.png at each validation.",
      [](CLI::App& app) {
        seg::add_help(app, {.example = "tools/analyze_logs work_dirs/first --keys loss mIoU lr "
                                       "--out work_dirs/first/curves.svg",
                            .exit_codes = {}});
        auto arguments = std::make_shared<AnalyzeArguments>();
        app.add_option("run", arguments->runs,
                       "work dirs, folders of single launches, or scalars.json files")
            ->required();
        app.add_option("--keys", arguments->keys, "names of values (default: loss mIoU)")
            ->type_name("KEY ...")
            ->expected(1, -1);
        app.add_option("--out", arguments->out, "picture to write (.png, .jpg, .tif, .svg)")
            ->type_name("FILE")
            ->check(picture_file());
        app.add_option("--csv", arguments->csv, "table to write")->type_name("FILE");
        app.add_option("--legend", arguments->legend, "names of the runs in the picture")
            ->type_name("NAME ...")
            ->expected(1, -1);
        app.add_option("--title", arguments->title, "title of the picture")->type_name("TEXT");
        app.add_option("--size", arguments->size,
                       "of the picture in pixels (default: 1000 wide, as high as its plots need)")
            ->type_name("WxH");
        app.add_option("--smoothing", arguments->smoothing,
                       "weight of the past in lines of training values, which are drawn over the "
                       "faint values themselves; 0: none (default: 0.85 for more than 50 values)")
            ->type_name("A")
            ->check(seg::number_between(0, 0.999));
        app.add_flag("--log-scale", arguments->log_scale, "logarithmic y axes");
        return [arguments] { return analyze_logs(*arguments); };
      });
}
