// Checks a state machine with the language service of AWS's own editors, which has no command of its own.
//
// usage: node language_service.cjs NODE_FOLDER FILE; NODE_FOLDER holds the packages of package-lock.json. Prints what is wrong and
// exits 1.
"use strict";

const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { resolve } = require("node:path");

const [folder, file] = process.argv.slice(2);
const from = createRequire(`${resolve(folder)}/`);
const { getLanguageService } = from("amazon-states-language-service");
const { TextDocument } = from("vscode-languageserver-textdocument");

const text = TextDocument.create(`file:///${file}`, "json", 1, readFileSync(file, "utf8"));
const service = getLanguageService({});
service.doValidation(text, service.parseJSONDocument(text)).then((problems) => {
  for (const { range, message } of problems) {
    console.log(`${file}:${range.start.line + 1}: ${message}`);
  }
  process.exitCode = problems.length > 0 ? 1 : 0;
});
