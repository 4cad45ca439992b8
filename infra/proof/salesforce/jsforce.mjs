// Delivers the rows as jsforce does: node jsforce.mjs ADDRESS CLIENT_SECRET collections|bulk ROWS
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const [, , address, secret, api, rows] = process.argv;
const { Connection } = createRequire(process.env.PROOF_NODE + '/')('@jsforce/jsforce-node');
const connection = new Connection({
  loginUrl: address, instanceUrl: address, version: '67.0',
  oauth2: { clientId: 'twin', clientSecret: secret, loginUrl: address },
});
await connection.authorize({ grant_type: 'client_credentials' });
connection.instanceUrl = address;
const given = JSON.parse(readFileSync(rows, 'utf8'));

if (api === 'collections') {
  const records = given.map((row) => ({
    External_Id__c: String(row.id), LastName: row.last_name, Email: row.email, Phone: row.phone,
    Lifetime_Value__c: Number(row.lifetime_value), Newsletter__c: row.newsletter, Birthdate: row.birthdate,
    Last_Order__c: row.last_order, Segment__c: row.segment, Account: { External_Id__c: row.account },
  }));
  const results = await connection.sobject('Contact').upsert(records, 'External_Id__c', { allOrNone: false });
  if (!results.every((result) => result.success)) throw new Error(JSON.stringify(results));
  // The second goes again.
  const gone = await connection.sobject('Contact').destroy([results[1].id], { allOrNone: false });
  if (!gone.every((result) => result.success)) throw new Error(JSON.stringify(gone));
} else {
  const input = given.map((row) => ({
    External_Id__c: String(row.id), LastName: row.last_name, Email: row.email, Phone: row.phone,
    Lifetime_Value__c: row.lifetime_value, Newsletter__c: String(row.newsletter), Birthdate: row.birthdate,
    Last_Order__c: row.last_order, Segment__c: row.segment ?? '#N/A', 'Account.External_Id__c': row.account,
  }));
  connection.bulk2.pollInterval = 500;
  connection.bulk2.pollTimeout = 20000;
  const results = await connection.bulk2.loadAndWaitForResults({
    object: 'Contact', operation: 'upsert', externalIdFieldName: 'External_Id__c', input,
  });
  if (results.successfulResults.length !== given.length) throw new Error(JSON.stringify(results));
}
