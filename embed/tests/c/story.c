// An app that embeds Quipu: writes how a text goes on, and checks what the library promises about errors.
//
//   story MODEL PROMPT TOKENS SEED     the text to stdout
//   story --warnings MODEL             what a user should know about the model to stdout
//   story --errors MODEL DIRECTORY     every rule broken once; the exit code counts those that went unnoticed

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quipu.h"

struct story {
    quipu_model *model;
    size_t bytes;
    // Stop once this many bytes are written; 0 for never.
    size_t enough;
    quipu_status nested;
};

static int write_text(const char *text, size_t len, void *user) {
    struct story *story = user;
    fwrite(text, 1, len, stdout);
    story->bytes += len;
    return story->enough > 0 && story->bytes >= story->enough;
}

static int silent(const char *text, size_t len, void *user) {
    (void)text;
    (void)len;
    (void)user;
    return 0;
}

// A call inside a call.
static int nested(const char *text, size_t len, void *user) {
    struct story *story = user;
    (void)text;
    (void)len;
    story->nested = quipu_generate(story->model, "x", NULL, silent, NULL, NULL);
    return 1;
}

static int unnoticed = 0;

// Expects a status, and a sentence with `word` in it.
static void expect(const char *what, quipu_status status, quipu_status expected, const char *word) {
    const char *sentence = quipu_last_error();
    if (status != expected || strstr(sentence, word) == NULL) {
        fprintf(stderr, "%s: status %d, expected %d, \"%s\" should contain \"%s\"\n", what, (int)status, (int)expected,
                sentence, word);
        unnoticed++;
    }
}

// Structs of an older and of a newer header.
static void sizes(quipu_model *model) {
    struct {
        size_t struct_size;
        uint32_t max_tokens;
        float temperature;
    } old_params = {.struct_size = sizeof old_params, .max_tokens = 3, .temperature = 0};
    struct {
        size_t struct_size, prompt_tokens, read_tokens, written_tokens, beyond;
    } old_report = {.struct_size = offsetof(quipu_report, read_seconds), .beyond = 77};
    struct {
        quipu_params params;
        uint64_t beyond;
    } new_params = {{.struct_size = sizeof new_params}, 99};
    quipu_params params = {.struct_size = sizeof params};
    quipu_report report = {.struct_size = sizeof report};
    size_t written;

    quipu_status status = quipu_generate(model, "Once", (quipu_params *)&old_params, silent, NULL, (quipu_report *)&old_report);
    if (status != QUIPU_STATUS_OK || old_report.written_tokens != 3 || old_report.prompt_tokens == 0) unnoticed++;
    if (old_report.beyond != 77 || old_report.struct_size != offsetof(quipu_report, read_seconds)) unnoticed++;

    if (quipu_params_default(&new_params.params) != QUIPU_STATUS_OK || new_params.params.struct_size != sizeof new_params ||
        new_params.beyond != 0) {
        unnoticed++;
    }
    new_params.params.max_tokens = 2;
    status = quipu_generate(model, "Once", &new_params.params, silent, NULL, &report);
    if (status != QUIPU_STATUS_OK || report.written_tokens != 2) unnoticed++;
    new_params.beyond = 1;
    expect("params from the future", quipu_generate(model, "Once", &new_params.params, silent, NULL, NULL),
           QUIPU_STATUS_ARGUMENT, "does not know");
    written = report.written_tokens;
    report.struct_size = 0;
    quipu_params_default(&params);
    expect("report of no size", quipu_generate(model, "Once", &params, silent, NULL, &report), QUIPU_STATUS_ARGUMENT,
           "report.struct_size is 0");
    if (report.written_tokens != written) unnoticed++;
    params.struct_size = 0;
    expect("params of no size", quipu_generate(model, "Once", &params, silent, NULL, NULL), QUIPU_STATUS_ARGUMENT,
           "params.struct_size is 0");
    expect("defaults of no size", quipu_params_default(&params), QUIPU_STATUS_ARGUMENT, "params.struct_size is 0");
}

/// Weights that are no numbers are noticed when they are packed, or, where a packed file is used as it lies, when they
/// are computed with.
static void damage(const char *directory, const char *name, int opens) {
    quipu_model *model = NULL;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (!opens) {
        expect(name, quipu_open(path, NULL, &model), QUIPU_STATUS_LOAD, "blk.1.ffn_up.weight");
        if (model != NULL) unnoticed++;
        return;
    }
    if (quipu_open(path, NULL, &model) != QUIPU_STATUS_OK) {
        fprintf(stderr, "%s\n", quipu_last_error());
        unnoticed++;
        return;
    }
    expect(name, quipu_generate(model, "Once", NULL, silent, NULL, NULL), QUIPU_STATUS_GENERATE, "blk.1.ffn_up.weight");
    quipu_free(model);
}

// Writes what it hears behind `user`, a text of 256 bytes.
static int keep(const char *text, size_t len, void *user) {
    char *kept = user;
    strncat(kept, text, len < 255 - strlen(kept) ? len : 255 - strlen(kept));
    return 0;
}

static const char *text_of(quipu_model *model, const quipu_params *params) {
    static char texts[2][256];
    static int next = 0;
    char *text = texts[next ^= 1];
    text[0] = 0;
    if (quipu_generate(model, "Once upon a time", params, keep, text, NULL) != QUIPU_STATUS_OK) {
        fprintf(stderr, "%s\n", quipu_last_error());
        unnoticed++;
    }
    return text;
}

// Each sampler changes the text, and its bad values are refused by name.
static void samplers(quipu_model *model) {
    const char *the[] = {" the", "e"}, *comma[] = {","}, *empty[] = {""};
    quipu_bias bias = {.token = 0, .bias = -100};
    quipu_params plain = {.struct_size = sizeof plain}, params;
    char before[256];
    quipu_params_default(&plain);
    plain.seed = 5;
    plain.max_tokens = 12;
    strcpy(before, text_of(model, &plain));
    if (strcmp(text_of(model, &plain), before) != 0 || strchr(before, 'e') == NULL) unnoticed++;
    // A caller who was compiled when the struct ended with `regex`.
    params = plain;
    params.struct_size = offsetof(quipu_params, typical_p);
    params.banned = the;
    params.banned_count = 2;
    params.mirostat = 7;
    if (strcmp(text_of(model, &params), before) != 0) unnoticed++;
#define CHANGES(...)                                                   \
    do {                                                               \
        params = plain;                                                \
        __VA_ARGS__;                                                   \
        if (strcmp(text_of(model, &params), before) == 0) {            \
            fprintf(stderr, "%s changes nothing\n", #__VA_ARGS__);     \
            unnoticed++;                                               \
        }                                                              \
    } while (0)
    CHANGES(params.typical_p = 0.2f);
    CHANGES(params.top_n_sigma = 0.3f);
    CHANGES(params.xtc_probability = 1, params.xtc_threshold = 0.03f);
    CHANGES(params.dynatemp_range = 0.7f, params.dynatemp_exponent = 0.3f);
    CHANGES(params.dry_multiplier = 30, params.dry_base = 3, params.dry_allowed_length = 0, params.dry_last_n = 100);
    CHANGES(params.mirostat = 2, params.mirostat_tau = 1);
    CHANGES(params.no_repeat_ngram = 1);
    CHANGES(params.samplers = "temperature");
    CHANGES(params.banned = the, params.banned_count = 2);
    if (strchr(text_of(model, &params), 'e') != NULL) unnoticed++;
#define REFUSED(word, ...)                                                                                             \
    do {                                                                                                               \
        params = plain;                                                                                                \
        __VA_ARGS__;                                                                                                   \
        expect(#__VA_ARGS__, quipu_generate(model, "x", &params, silent, NULL, NULL), QUIPU_STATUS_ARGUMENT, word);    \
    } while (0)
    REFUSED("typical_p", params.typical_p = 2);
    REFUSED("mirostat", params.mirostat = 3);
    REFUSED("warmth", params.samplers = "top_k;warmth");
    REFUSED("banned is NULL", params.banned_count = 1);
    REFUSED("dry_breakers is NULL", params.dry_breaker_count = 1);
    REFUSED("logit_bias is NULL", params.logit_bias_count = 1);
    REFUSED("banned string", params.banned = empty, params.banned_count = 1);
    // What may be said of lists: breakers, biases.
    params = plain;
    params.dry_breakers = comma;
    params.dry_breaker_count = 1;
    params.logit_bias = &bias;
    params.logit_bias_count = 1;
    params.ignore_end = 1;
    params.thinking_budget = 0;
    if (strcmp(text_of(model, &params), before) != 0) unnoticed++;
    params.schema = "{\"enum\": [\"abc\", \"xyz\"]}";
    params.banned = comma;
    params.banned_count = 1;
    if (strlen(text_of(model, &params)) == 0) unnoticed++;
}

/* A text is kept, the model freed, and only what comes after the text has to be read then. */
static void sessions(const char *path, const char *directory) {
    quipu_model *model;
    quipu_options options = {.struct_size = sizeof options, .kv = "q8"};
    quipu_params params = {.struct_size = sizeof params};
    quipu_report report = {.struct_size = sizeof report};
    char file[4096];
    int i;

    snprintf(file, sizeof file, "%s/kept.session", directory);
    quipu_params_default(&params);
    params.max_tokens = 1;
    for (i = 0; i < 2; i++) {
        if (quipu_open(path, &options, &model) != QUIPU_STATUS_OK) {
            unnoticed++;
            return;
        }
        if (i == 0) {
            expect("nothing to keep", quipu_session_save(model, file), QUIPU_STATUS_SESSION, "no text yet");
            expect("no session", quipu_session_open(model, file), QUIPU_STATUS_SESSION, "kept.session");
            expect("no session's path", quipu_session_open(model, NULL), QUIPU_STATUS_ARGUMENT, "path is NULL");
            expect("no session's model", quipu_session_save(NULL, file), QUIPU_STATUS_ARGUMENT, "model is NULL");
        } else if (quipu_session_open(model, file) != QUIPU_STATUS_OK) {
            unnoticed++;
        }
        if (quipu_generate(model, "Once upon a time there was", &params, silent, NULL, &report) != QUIPU_STATUS_OK) unnoticed++;
        if (i == 0 ? report.read_tokens != report.prompt_tokens : report.read_tokens != 1) unnoticed++;
        if (i == 0 && quipu_session_save(model, file) != QUIPU_STATUS_OK) unnoticed++;
        expect("the model's file", quipu_session_save(model, path), QUIPU_STATUS_SESSION, "same file");
        quipu_free(model);
    }
    options.kv = "f32";
    if (quipu_open(path, &options, &model) != QUIPU_STATUS_OK) unnoticed++;
    expect("another cache", quipu_session_open(model, file), QUIPU_STATUS_SESSION, "Q8, not F32");
    quipu_free(model);
    remove(file);
}

static int errors(const char *path, const char *directory) {
    quipu_model *model = (quipu_model *)&unnoticed;
    quipu_options options = {.struct_size = sizeof options};
    quipu_params params = {.struct_size = sizeof params};
    quipu_report report = {.struct_size = sizeof report};
    const char *stops[] = {"a", NULL};
    struct story story = {0};

    if (*quipu_last_error() != 0) unnoticed++;
    if (quipu_params_default(&params) != QUIPU_STATUS_OK) unnoticed++;
    expect("no params", quipu_params_default(NULL), QUIPU_STATUS_ARGUMENT, "params is NULL");
    expect("no path", quipu_open(NULL, NULL, &model), QUIPU_STATUS_ARGUMENT, "path is NULL");
    if (model != NULL) unnoticed++;
    expect("no place", quipu_open(path, NULL, NULL), QUIPU_STATUS_ARGUMENT, "model is NULL");
    expect("no UTF-8", quipu_open("mod\xff", NULL, &model), QUIPU_STATUS_ARGUMENT, "number 3");
    expect("no file", quipu_open("/nowhere/model.gguf", NULL, &model), QUIPU_STATUS_OPEN, "/nowhere/model.gguf");
    expect("no model", quipu_open(directory, NULL, &model), QUIPU_STATUS_OPEN, directory);
    options.isa = "abacus";
    expect("no such instruction set", quipu_open(path, &options, &model), QUIPU_STATUS_ARGUMENT, "abacus");
    options.isa = NULL;
    options.tuning = "panel";
    expect("no such tuning", quipu_open(path, &options, &model), QUIPU_STATUS_ARGUMENT, "`panel`");
    options.tuning = "off";
    options.kv = "q5";
    expect("no such cache", quipu_open(path, &options, &model), QUIPU_STATUS_ARGUMENT, "`q5`");
    options.kv = NULL;
    options.threads = 1000000;
    expect("too many threads", quipu_open(path, &options, &model), QUIPU_STATUS_LOAD, "1000000");
    if (model != NULL) unnoticed++;

    damage(directory, "damaged.gguf", 0);
    damage(directory, "damaged.quipu", 1);

    options.threads = 1;
    options.context = 20;
    if (quipu_open(path, &options, &model) != QUIPU_STATUS_OK) {
        fprintf(stderr, "%s\n", quipu_last_error());
        return 100;
    }
    if (*quipu_warnings(NULL) != 0 || *quipu_warnings(model) != 0) unnoticed++;
    expect("no model", quipu_generate(NULL, "x", NULL, silent, NULL, NULL), QUIPU_STATUS_ARGUMENT, "model is NULL");
    expect("no prompt", quipu_generate(model, NULL, NULL, silent, NULL, NULL), QUIPU_STATUS_ARGUMENT, "prompt is NULL");
    expect("no callback", quipu_generate(model, "x", NULL, NULL, NULL, NULL), QUIPU_STATUS_ARGUMENT, "callback is NULL");
    expect("bad prompt", quipu_generate(model, "\xc3(", NULL, silent, NULL, NULL), QUIPU_STATUS_ARGUMENT, "prompt");
    params.temperature = -1;
    expect("bad temperature", quipu_generate(model, "x", &params, silent, NULL, NULL), QUIPU_STATUS_ARGUMENT, "-1");
    quipu_params_default(&params);
    params.stop_count = 2;
    expect("no stops", quipu_generate(model, "x", &params, silent, NULL, NULL), QUIPU_STATUS_ARGUMENT, "stop");
    params.stop = stops;
    expect("no stop", quipu_generate(model, "x", &params, silent, NULL, NULL), QUIPU_STATUS_ARGUMENT, "stop[1] is NULL");
    expect("long prompt",
           quipu_generate(model, "a b c d e f g h i j k l m n o p q r s t u v w x y z", NULL, silent, NULL, NULL),
           QUIPU_STATUS_GENERATE, "20");
    story.model = model;
    if (quipu_generate(model, "x", NULL, nested, &story, &report) != QUIPU_STATUS_OK) unnoticed++;
    expect("a call inside a call", story.nested, QUIPU_STATUS_BUSY, "in use");
    if (report.stop != QUIPU_STOP_CALLBACK || report.written_tokens != 0) unnoticed++;

    sizes(model);
    sessions(path, directory);

    quipu_params_default(&params);
    params.schema = "{\"uniqueItems\": true}";
    expect("a schema that is not enforced", quipu_generate(model, "x", &params, silent, NULL, NULL), QUIPU_STATUS_ARGUMENT,
           "#/uniqueItems");
    params.regex = "[a-c]";
    expect("two shapes", quipu_generate(model, "x", &params, silent, NULL, NULL), QUIPU_STATUS_ARGUMENT, "only one");
    params.schema = NULL;
    if (quipu_generate(model, "x", &params, silent, NULL, &report) != QUIPU_STATUS_OK) unnoticed++;
    if (report.stop != QUIPU_STOP_END || report.written_tokens != 1) unnoticed++;

    samplers(model);

    // After all that it still writes.
    quipu_params_default(&params);
    if (quipu_generate(model, "Once", &params, silent, NULL, &report) != QUIPU_STATUS_OK) unnoticed++;
    if (report.stop != QUIPU_STOP_CONTEXT_FULL && report.stop != QUIPU_STOP_END) unnoticed++;
    quipu_free(model);
    quipu_free(NULL);
    return unnoticed;
}

static int warnings(const char *path) {
    quipu_model *model;
    if (quipu_open(path, NULL, &model) != QUIPU_STATUS_OK) {
        fprintf(stderr, "%s\n", quipu_last_error());
        return 1;
    }
    puts(quipu_warnings(model));
    quipu_free(model);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--warnings") == 0) return warnings(argv[2]);
    if (argc == 4 && strcmp(argv[1], "--errors") == 0) return errors(argv[2], argv[3]);
    if (argc != 5) {
        fprintf(stderr, "usage: story MODEL PROMPT TOKENS SEED\n");
        return 2;
    }
    struct story story = {0};
    if (quipu_open(argv[1], NULL, &story.model) != QUIPU_STATUS_OK) {
        fprintf(stderr, "%s\n", quipu_last_error());
        return 1;
    }
    quipu_params params = {.struct_size = sizeof params};
    quipu_params_default(&params);
    params.max_tokens = (uint32_t)strtoul(argv[3], NULL, 10);
    params.seed = strtoull(argv[4], NULL, 10);
    quipu_report report = {.struct_size = sizeof report};
    // Twice: at first only the beginning. The second time the prompt is known but for its last token, and the text is the same.
    story.enough = 1;
    quipu_status first = quipu_generate(story.model, argv[2], &params, write_text, &story, &report);
    int stopped = report.stop == QUIPU_STOP_CALLBACK && report.written_tokens > 0;
    fputs("\n", stdout);
    story.enough = 0;
    quipu_status second = quipu_generate(story.model, argv[2], &params, write_text, &story, &report);
    if (first != QUIPU_STATUS_OK || second != QUIPU_STATUS_OK) {
        fprintf(stderr, "%s\n", quipu_last_error());
        return 1;
    }
    fprintf(stderr, "version %s, stopped %d, prompt %zu, read %zu, written %zu, stop %d\n", quipu_version(), stopped,
            report.prompt_tokens, report.read_tokens, report.written_tokens, (int)report.stop);
    quipu_free(story.model);
    return 0;
}
